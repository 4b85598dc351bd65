//! One line of figures: a flat JSON object, written and read.

use std::fmt;
use std::str::FromStr;

/// A value of a [`Record`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number; one that is not finite is written as `null`.
    Number(f64),
    /// A text.
    Text(String),
    /// `true`, `false`.
    Flag(bool),
    /// `null`.
    Nothing,
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Names and values in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    entries: Vec<(String, Value)>,
}

impl Record {
    /// Without any value.
    pub fn new() -> Self {
        Self::default()
    }

    /// This one, with a value more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.entries.push((name.to_owned(), value.into()));
        self
    }

    /// The number of this name.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The names and values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let found = self.entries.iter().find(|(entry, _)| entry == name);
        found.map(|(_, value)| value)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.entries.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}:", Quoted(name))?;
            match value {
                Value::Number(number) if number.is_finite() => write!(f, "{number}")?,
                Value::Number(_) | Value::Nothing => f.write_str("null")?,
                Value::Flag(flag) => write!(f, "{flag}")?,
                Value::Text(text) => write!(f, "{}", Quoted(text))?,
            }
        }
        f.write_str("}")
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut rest = Rest(line.trim());
        let mut record = Self::new();
        rest.expect('{')?;
        if rest.take('}') {
            return rest.end().map(|()| record);
        }
        loop {
            let name = rest.text()?;
            rest.expect(':')?;
            let value = rest.value()?;
            record.entries.push((name, value));
            if rest.take('}') {
                return rest.end().map(|()| record);
            }
            rest.expect(',')?;
        }
    }
}

/// What of a line was not read yet.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn take(&mut self, c: char) -> bool {
        let rest = self.0.trim_start();
        let found = rest.strip_prefix(c);
        self.0 = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) {
            return Ok(());
        }
        Err(format!("{c} expected before: {}", self.0))
    }

    fn end(&self) -> Result<(), String> {
        if self.0.trim().is_empty() {
            return Ok(());
        }
        Err(format!("nothing expected here: {}", self.0))
    }

    fn value(&mut self) -> Result<Value, String> {
        self.0 = self.0.trim_start();
        if self.0.starts_with('"') {
            return self.text().map(Value::Text);
        }
        let end = self.0.find([',', '}', ' ']).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        match word {
            "null" => Ok(Value::Nothing),
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            number => number
                .parse()
                .map(Value::Number)
                .map_err(|_| format!("no value: {number}")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut text = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next().ok_or("a text without its end")? {
                '"' => break,
                '\\' => text.push(escaped(&mut chars)?),
                c => text.push(c),
            }
        }
        self.0 = chars.as_str();
        Ok(text)
    }
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    match chars.next() {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('u') => {
            let digits: String = chars.take(4).collect();
            let code = u32::from_str_radix(&digits, 16).ok();
            code.and_then(char::from_u32)
                .ok_or_else(|| format!("no character: \\u{digits}"))
        }
        Some(c @ ('"' | '\\' | '/')) => Ok(c),
        other => Err(format!("unknown escape: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let record = Record::new()
            .with("cell", "echo \"64 B\"\n\\\u{1}")
            .with("messages", 12.5)
            .with("small", -0.000_001)
            .with("resumed", true)
            .with("none", Value::Nothing);
        assert_eq!(record.to_string().parse(), Ok(record));
        assert_eq!("{}".parse(), Ok(Record::new()));
    }

    #[test]
    fn what_is_no_flat_object_is_refused() {
        for line in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1} 2",
            "{\"a\":[1]}",
        ] {
            assert!(line.parse::<Record>().is_err(), "{line}");
        }
    }
}
