//! YAML values that know their place.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, Spanned};

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Place {
    /// Line, from 1; 0 when the problem is with the file as a whole.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters are meant; at least 1.
    pub length: u32,
}

impl Place {
    /// One character at `line` and `column`.
    #[must_use]
    pub const fn at(line: u32, column: u32) -> Self {
        Self { line, column, length: 1 }
    }

    fn of(location: Location, length: usize) -> Self {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: number(location.line()), column: number(location.column()), length: number(length as u64).max(1) }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// A YAML value. Keys keep their order; one that is there twice is there twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// An entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Where the key stands.
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// The entry of a map; of equal keys the first.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// The value of an entry of a map.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.field(name).map(|field| &field.node)
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn fields(&self) -> &[Field] {
        if let Value::Map(fields) = &self.value { fields } else { &[] }
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    /// The text at a path of fields.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        path.iter().try_fold(self, |node, name| node.get(name))?.as_str()
    }

    /// What kind of value it is, in the words of a message.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing (null)",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The place of what a field path names (`spec.schema.columns[2].name`, as Kubernetes writes paths):
    /// the value's own, or that of the nearest thing around it that is there.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']).map(|step| step.trim_end_matches(']')).filter(|step| !step.is_empty()) {
            if let Some(field) = node.field(step) {
                // A map or list begins on a line of its own: its key says better what is meant.
                place = if matches!(field.node.value, Value::Map(_) | Value::List(_) | Value::Null) {
                    field.place
                } else {
                    field.node.place
                };
                node = &field.node;
            } else if let Some(item) = step.parse().ok().and_then(|at: usize| node.items().get(at)) {
                (node, place) = (item, item.place);
            } else {
                break;
            }
        }
        place
    }

    /// The same without places.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::String(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(fields) => {
                let mut map = serde_json::Map::new();
                for field in fields {
                    map.entry(field.name.clone()).or_insert_with(|| field.node.to_json());
                }
                map.into()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let length = match &spanned.value {
            Value::List(_) | Value::Map(_) => 1,
            _ => spanned.referenced.span().len(),
        };
        Ok(Self { place: Place::of(spanned.referenced, usize::try_from(length).unwrap_or(1)), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("infinity and NaN are no JSON numbers"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Node>()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let length = key.value.chars().count();
            let place = Place::of(key.referenced, length);
            fields.push(Field { name: key.value, place, node: map.next_value()? });
        }
        Ok(Value::Map(fields))
    }
}
