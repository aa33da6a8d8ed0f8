//! Objects under construction: a record, or a struct in one.

use arrow::array::ArrayRef;
use freshet_plan::DataType;

use super::super::BadReason;
use super::column::ColumnBuilder;
use super::cursor::{Breach, Cursor, Fault};

/// Names are remembered for this many members of an object; later ones are looked up each time.
const MAX_REMEMBERED: usize = 256;

/// Longer names are not remembered: they would only hold memory.
const MAX_REMEMBERED_BYTES: usize = 256;

/// The declared fields of an object. Their columns are equally long between two objects.
pub(super) struct ObjectBuilder {
    fields: Vec<Field>,
    /// What the members of the last object were called, in their order. Writers rarely change the order of
    /// the fields, so one comparison usually replaces finding a name's end and looking it up.
    remembered: Vec<Member>,
    /// For names that must be unescaped before they are compared.
    scratch: Vec<u8>,
    rows: usize,
}

struct Field {
    name: String,
    required: bool,
    column: ColumnBuilder,
    /// Why the object that is being read has no value here.
    breach: Option<Box<Breach>>,
}

struct Member {
    /// As it was written, with its quotes.
    quoted: Vec<u8>,
    field: Option<usize>,
}

impl ObjectBuilder {
    /// An object with these fields: name, type, whether null or absent breaks the contract.
    pub(super) fn new<'a>(fields: impl Iterator<Item = (&'a str, &'a DataType, bool)>) -> Self {
        let fields = fields.map(|(name, data_type, required)| Field {
            name: name.to_owned(),
            required,
            column: ColumnBuilder::new(data_type),
            breach: None,
        });
        Self { fields: fields.collect(), remembered: Vec::new(), scratch: Vec::new(), rows: 0 }
    }

    /// Forgets all objects from position `len` on, also one that was begun and not ended.
    pub(super) fn truncate(&mut self, len: usize) {
        self.rows = len;
        for field in &mut self.fields {
            field.column.truncate(len);
            field.breach = None;
        }
    }

    /// Appends a null.
    pub(super) fn push_null(&mut self) {
        self.rows += 1;
        for field in &mut self.fields {
            field.column.push_null();
        }
    }

    /// Appends the object that comes next: its opening bracket is known to be there. After an error some
    /// columns may hold a part of it: the caller truncates.
    pub(super) fn take(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let mut filled = 0;
        let mut breached = false;
        let mut position = 0;
        let mut more = cursor.open(b'}');
        while more {
            let field = self.name(position, cursor)?;
            position += 1;
            cursor.colon()?;
            match field {
                Some(field) => {
                    let field = &mut self.fields[field];
                    if field.column.len() > self.rows {
                        field.column.truncate(self.rows);
                        filled -= 1;
                    }
                    match field.take(cursor, self.rows)? {
                        true => filled += 1,
                        false => breached = true,
                    }
                }
                None => cursor.skip_value()?,
            }
            more = cursor.another(b'}')?;
        }
        if breached || filled < self.fields.len() {
            self.complete()?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Reads a member's name: the field that is called so, if one is.
    #[inline]
    fn name(&mut self, position: usize, cursor: &mut Cursor<'_>) -> Result<Option<usize>, Fault> {
        if let Some(member) = self.remembered.get(position)
            && cursor.rest().starts_with(&member.quoted)
        {
            cursor.at += member.quoted.len();
            return Ok(member.field);
        }
        self.look_up(position, cursor)
    }

    fn look_up(&mut self, position: usize, cursor: &mut Cursor<'_>) -> Result<Option<usize>, Fault> {
        cursor.expect_name()?;
        let start = cursor.at;
        let before = cursor.rest();
        let name = match cursor.text(&mut self.scratch) {
            Ok(name) => name,
            // Half a surrogate pair is in no declared name.
            Err(Fault::Contract(_)) => {
                cursor.at = start;
                cursor.skip_value()?;
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        let field = self.fields.iter().position(|field| field.name.as_bytes() == name);
        let quoted = &before[..cursor.at - start];
        // A member may be missing here, when an earlier name was too odd to remember.
        if position < MAX_REMEMBERED && position <= self.remembered.len() && quoted.len() <= MAX_REMEMBERED_BYTES {
            match self.remembered.get_mut(position) {
                Some(member) => {
                    member.quoted.clear();
                    member.quoted.extend_from_slice(quoted);
                    member.field = field;
                }
                None => self.remembered.push(Member { quoted: quoted.to_vec(), field }),
            }
        }
        Ok(field)
    }

    /// Fills the fields that the object did not have with nulls.
    ///
    /// # Errors
    /// The first breach of contract, in the order of the fields.
    #[cold]
    fn complete(&mut self) -> Result<(), Fault> {
        for field in &mut self.fields {
            if let Some(breach) = field.breach.take() {
                return Err(Fault::Contract(breach));
            }
            if field.column.len() > self.rows {
                continue;
            }
            if field.required {
                let message = "a required column is not there".to_owned();
                let path = field.name.clone();
                return Err(Fault::Contract(Box::new(Breach { reason: BadReason::MissingColumn, path, message })));
            }
            field.column.push_null();
        }
        Ok(())
    }

    /// The fields' columns as arrays; no object is left.
    pub(super) fn finish(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.fields.iter_mut().map(|field| field.column.finish()).collect()
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}

impl Field {
    /// Takes the next value for row `row`: true when it is good, false when it breaks the contract. Then it
    /// was stepped over, since a later member of the same name may still replace it.
    #[inline]
    fn take(&mut self, cursor: &mut Cursor<'_>, row: usize) -> Result<bool, Fault> {
        self.breach = None;
        let start = cursor.at;
        let null = cursor.peek() == Some(b'n');
        let fault = match self.column.take(cursor) {
            Ok(()) if null && self.required => {
                Fault::contract(BadReason::NullColumn, "a required column is null".to_owned())
            }
            Ok(()) => return Ok(true),
            Err(fault) => fault,
        };
        let Fault::Contract(mut breach) = fault else { return Err(fault) };
        self.column.truncate(row);
        cursor.at = start;
        cursor.skip_value()?;
        let dot = if breach.path.is_empty() || breach.path.starts_with('[') { "" } else { "." };
        breach.path = format!("{}{dot}{}", self.name, breach.path);
        self.breach = Some(breach);
        Ok(false)
    }
}
