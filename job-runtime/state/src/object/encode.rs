//! From sections to bytes. The layout is in the essay of [`super`].

use std::collections::HashMap;

use bytes::Bytes;

use super::{END_MAGIC, MAGIC, Manifest, ObjectHeader, Part, TaskSection, VERSION};
use crate::paths::ObjectKind;
use crate::rows::put_varint;

/// The object's bytes. The same input gives the same bytes.
#[must_use]
pub fn encode(header: &ObjectHeader, sections: &[TaskSection]) -> Bytes {
    let rows: usize = sections.iter().map(|section| section.rows.bytes().len()).sum();
    let mut out = Vec::with_capacity(rows + 1024 + 256 * sections.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    put_header(&mut out, header, sections);
    let with_rows = sections.iter().filter(|section| !section.rows.is_empty());
    let mut count = 0_u32;
    for section in with_rows {
        put_section(&mut out, section);
        count += 1;
    }
    let footer_at = out.len();
    out.extend_from_slice(&count.to_le_bytes());
    let length = (out.len() + 8 + 4 + END_MAGIC.len()) as u64;
    out.extend_from_slice(&length.to_le_bytes());
    put_checksum(&mut out, footer_at);
    out.extend_from_slice(END_MAGIC);
    out.into()
}

fn put_header(out: &mut Vec<u8>, header: &ObjectHeader, sections: &[TaskSection]) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let name = &header.name;
    put_text(out, &header.lineage);
    put_varint(out, name.generation);
    put_varint(out, u64::from(name.slot));
    out.push(match name.kind {
        ObjectKind::Delta => 0,
        ObjectKind::Merged => 1,
    });
    put_varint(out, name.epoch);
    out.extend_from_slice(&name.random.to_le_bytes());
    put_text(out, &header.plan_fingerprint);
    put_text(out, &header.runtime_version);

    let texts = Texts::of(sections);
    put_varint(out, texts.in_order.len() as u64);
    for text in &texts.in_order {
        put_text(out, text);
    }
    put_varint(out, sections.len() as u64);
    for section in sections {
        put_varint(out, texts.index(&section.task.stage));
        put_varint(out, u64::from(section.task.partition));
        out.push(u8::from(!section.rows.is_empty()));
        put_manifest(out, &section.manifest, &texts);
    }
    // A header holds names and small numbers of at most some thousand tasks.
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    put_checksum(out, 0);
}

fn put_manifest(out: &mut Vec<u8>, manifest: &Manifest, texts: &Texts<'_>) {
    match &manifest.base {
        None => put_varint(out, 0),
        Some(base) => {
            put_varint(out, texts.index(&base.object) + 1);
            put_varint(out, base.bytes);
        }
    }
    put_varint(out, manifest.deltas.len() as u64);
    for Part { object, bytes } in &manifest.deltas {
        put_varint(out, texts.index(object));
        put_varint(out, *bytes);
    }
}

fn put_section(out: &mut Vec<u8>, section: &TaskSection) {
    let begun = out.len();
    out.extend_from_slice(&[0; 8]);
    put_varint(out, section.rows.operators().len() as u64);
    for operator in section.rows.operators() {
        put_text(out, operator);
    }
    put_varint(out, section.rows.len());
    out.extend_from_slice(section.rows.bytes());
    let length = (out.len() - begun - 8) as u64;
    out[begun..begun + 8].copy_from_slice(&length.to_le_bytes());
    put_checksum(out, begun);
}

fn put_checksum(out: &mut Vec<u8>, from: usize) {
    let checksum = crc32c::crc32c(&out[from..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Texts that many tasks share, each written once.
struct Texts<'a> {
    in_order: Vec<&'a str>,
    places: HashMap<&'a str, u64>,
}

impl<'a> Texts<'a> {
    fn of(sections: &'a [TaskSection]) -> Self {
        let mut texts = Self { in_order: Vec::new(), places: HashMap::new() };
        for section in sections {
            texts.add(&section.task.stage);
            for part in section.manifest.parts() {
                texts.add(&part.object);
            }
        }
        texts
    }

    fn add(&mut self, text: &'a str) {
        let Self { in_order, places } = self;
        places.entry(text).or_insert_with(|| {
            in_order.push(text);
            in_order.len() as u64 - 1
        });
    }

    fn index(&self, text: &str) -> u64 {
        self.places[text]
    }
}
