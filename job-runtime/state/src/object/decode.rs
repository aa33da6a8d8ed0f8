//! From bytes to sections. Nothing in the bytes is trusted before its checksum was compared.

use bytes::Bytes;
use freshet_env::{PlantedBug, planted};

use super::{END_MAGIC, FOOTER_LEN, MAGIC, Manifest, ObjectHeader, Part, StateObject, StoredSection, VERSION};
use crate::TaskId;
use crate::paths::{ObjectKind, ObjectName};
use crate::rows::{take_bytes, take_varint};

/// Bytes that are no whole state object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// They are not what was written.
    #[error("corrupt at byte {at}: {what}")]
    Corrupt {
        /// Where, bytes from the beginning.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// A newer runtime wrote them.
    #[error("format version {found}, this runtime reads up to {VERSION}")]
    Newer {
        /// The version that they have.
        found: u32,
    },
}

/// The object in `bytes`, all of whose checksums hold. Its rows share the memory of `bytes`; they are
/// walked only by who reads them.
///
/// # Errors
/// [`ObjectError`], with the place of the first damage.
pub fn decode(bytes: &Bytes) -> Result<StateObject, ObjectError> {
    let mut reader = Reader { bytes, at: 0 };
    let section_count = reader.footer()?;
    if reader.take(MAGIC.len(), "the magic")? != MAGIC {
        return Err(corrupt(0, "it does not begin as a state object does"));
    }
    let version = reader.u32("the version")?;
    if version > VERSION {
        // The layout behind an unknown version can't be checked; nothing is read from it.
        return Err(ObjectError::Newer { found: version });
    }
    if version != VERSION {
        return Err(corrupt(MAGIC.len(), format!("there is no format version {version}")));
    }
    let (header, mut sections) = reader.header()?;
    let mut found = 0;
    for (has_rows, section) in &mut sections {
        if *has_rows {
            reader.section(section)?;
            found += 1;
        }
    }
    if found != section_count || reader.at != bytes.len() - FOOTER_LEN {
        return Err(corrupt(reader.at, "its sections are not those that header and footer speak of"));
    }
    let sections = sections.into_iter().map(|(_, section)| section).collect();
    Ok(StateObject { header, sections, bytes: bytes.len() as u64 })
}

fn corrupt(at: usize, what: impl Into<String>) -> ObjectError {
    ObjectError::Corrupt { at, what: what.into() }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The number of sections; leaves the position where it was.
    fn footer(&self) -> Result<u32, ObjectError> {
        let whole = self.bytes.len();
        let from = whole.checked_sub(FOOTER_LEN).ok_or_else(|| corrupt(whole, "it is cut short"))?;
        let mut footer = Reader { bytes: self.bytes, at: from };
        let count = footer.u32("the footer")?;
        let length = u64::from_le_bytes(footer.array("the footer")?);
        footer.checksum(from, "its footer (it is cut short, or damaged)")?;
        if footer.take(END_MAGIC.len(), "the end")? != END_MAGIC {
            return Err(corrupt(footer.at, "it does not end as a state object does: it is cut short, or damaged"));
        }
        if length != whole as u64 {
            return Err(corrupt(whole, format!("it is {whole} bytes long, but was written with {length}")));
        }
        Ok(count)
    }

    fn header(&mut self) -> Result<(ObjectHeader, Vec<(bool, StoredSection)>), ObjectError> {
        let length = self.u32("the header's length")? as usize;
        let begun = self.at;
        self.take(length, "the header")?;
        let end = self.at;
        self.checksum(0, "its header")?;
        let after = self.at;
        self.at = begun;

        let lineage = self.text("the lineage")?;
        let generation = self.varint("the generation")?;
        let slot = self.varint_u32("the slot")?;
        let kind = match self.byte("the kind")? {
            0 => ObjectKind::Delta,
            1 => ObjectKind::Merged,
            other => return Err(corrupt(self.at, format!("there is no kind {other} of object"))),
        };
        let epoch = self.varint("the epoch")?;
        let random = u64::from_le_bytes(self.array("the name")?);
        let name = ObjectName { generation, slot, kind, epoch, random };
        let plan_fingerprint = self.text("the plan's fingerprint")?;
        let runtime_version = self.text("the runtime's version")?;
        let texts = (0..self.varint("the table of texts")?)
            .map(|_| self.text("the table of texts"))
            .collect::<Result<Vec<_>, _>>()?;
        let sections = (0..self.varint("the tasks")?).map(|_| self.task(&texts)).collect::<Result<Vec<_>, _>>()?;
        if self.at != end {
            return Err(corrupt(self.at, "its header does not end where it says"));
        }
        self.at = after;
        Ok((ObjectHeader { lineage, name, plan_fingerprint, runtime_version }, sections))
    }

    fn task(&mut self, texts: &[String]) -> Result<(bool, StoredSection), ObjectError> {
        let stage = self.varint("a task's stage")?;
        let stage = self.text_of(texts, stage)?;
        let partition = self.varint_u32("a task's partition")?;
        let has_rows = match self.byte("a task")? {
            0 => false,
            1 => true,
            other => return Err(corrupt(self.at, format!("{other} is neither yes nor no"))),
        };
        let base = match self.varint("a task's base")? {
            0 => None,
            index => Some(self.part(texts, index - 1)?),
        };
        let deltas = (0..self.varint("a task's deltas")?)
            .map(|_| {
                let index = self.varint("a delta's name")?;
                self.part(texts, index)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let section = StoredSection {
            task: TaskId { stage, partition },
            manifest: Manifest { base, deltas },
            operators: Vec::new(),
            row_count: 0,
            rows: Bytes::new(),
            rows_at: 0,
        };
        Ok((has_rows, section))
    }

    fn part(&mut self, texts: &[String], index: u64) -> Result<Part, ObjectError> {
        Ok(Part { object: self.text_of(texts, index)?, bytes: self.varint("a part's bytes")? })
    }

    fn text_of(&self, texts: &[String], index: u64) -> Result<String, ObjectError> {
        let text = usize::try_from(index).ok().and_then(|index| texts.get(index));
        text.cloned().ok_or_else(|| corrupt(self.at, format!("it points to text {index} of {}", texts.len())))
    }

    fn section(&mut self, section: &mut StoredSection) -> Result<(), ObjectError> {
        let begun = self.at;
        let length = u64::from_le_bytes(self.array("a section's length")?);
        let from = self.at;
        let length = usize::try_from(length).map_err(|_| corrupt(begun, "a section is longer than the object"))?;
        self.take(length, "a section")?;
        let end = self.at;
        self.checksum(begun, &format!("the section of task {}", section.task))?;
        let after = self.at;
        self.at = from;
        section.operators =
            (0..self.varint("the operators")?).map(|_| self.text("the operators")).collect::<Result<Vec<_>, _>>()?;
        section.row_count = self.varint("the number of rows")?;
        if self.at > end {
            return Err(corrupt(self.at, format!("the section of task {} ends before its rows", section.task)));
        }
        section.rows = self.bytes.slice(self.at..end);
        section.rows_at = self.at as u64;
        self.at = after;
        Ok(())
    }

    /// Compares the checksum at the position with that of all bytes from `from` up to it.
    fn checksum(&mut self, from: usize, whose: &str) -> Result<(), ObjectError> {
        let end = self.at;
        let written = self.u32("a checksum")?;
        if planted(PlantedBug::IgnoreChecksum) || written == crc32c::crc32c(&self.bytes[from..end]) {
            return Ok(());
        }
        Err(corrupt(end, format!("the checksum is not that of {whose}")))
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], ObjectError> {
        take_bytes(self.bytes, &mut self.at, length as u64)
            .ok_or_else(|| corrupt(self.at, format!("{what} is cut short")))
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ObjectError> {
        self.take(N, what).map(|taken| taken.try_into().expect("as many bytes as were taken"))
    }

    fn byte(&mut self, what: &str) -> Result<u8, ObjectError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn u32(&mut self, what: &str) -> Result<u32, ObjectError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn varint(&mut self, what: &str) -> Result<u64, ObjectError> {
        take_varint(self.bytes, &mut self.at).ok_or_else(|| corrupt(self.at, format!("{what}: a number is cut short")))
    }

    fn varint_u32(&mut self, what: &str) -> Result<u32, ObjectError> {
        let number = self.varint(what)?;
        u32::try_from(number).map_err(|_| corrupt(self.at, format!("{what}: {number} is too large")))
    }

    fn text(&mut self, what: &str) -> Result<String, ObjectError> {
        let length = self.varint(what)?;
        let taken = take_bytes(self.bytes, &mut self.at, length);
        let text = taken.and_then(|taken| std::str::from_utf8(taken).ok());
        text.map(str::to_owned).ok_or_else(|| corrupt(self.at, format!("{what}: a text is cut short or no UTF-8")))
    }
}
