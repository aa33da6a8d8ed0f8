//! Patterns in other languages: of dates as Java has them, of texts as SIMILAR TO has them.

/// A pattern of Java's `DateTimeFormatter`, which Flink SQL uses, as one of `strftime`; or the part that has no such.
pub(crate) fn strftime(pattern: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            let inside = &rest[1..];
            if let Some(after) = inside.strip_prefix('\'') {
                out.push('\'');
                rest = after;
                continue;
            }
            let end = inside.find('\'').ok_or("a ' without end")?;
            push_text(&mut out, &inside[..end]);
            rest = &inside[end + 1..];
            continue;
        }
        let end = rest.find(|c| c != first).unwrap_or(rest.len());
        let run = &rest[..end];
        rest = &rest[end..];
        if !first.is_ascii_alphabetic() {
            push_text(&mut out, run);
            continue;
        }
        out.push_str(match run {
            "y" | "yyyy" | "u" | "uuuu" => "%Y",
            "yy" | "uu" => "%y",
            "M" | "L" => "%-m",
            "MM" | "LL" => "%m",
            "MMM" | "LLL" => "%b",
            "MMMM" | "LLLL" => "%B",
            "d" => "%-d",
            "dd" => "%d",
            "D" => "%-j",
            "DDD" => "%j",
            "H" => "%-H",
            "HH" => "%H",
            "h" => "%-I",
            "hh" => "%I",
            "m" => "%-M",
            "mm" => "%M",
            "s" => "%-S",
            "ss" => "%S",
            "SSS" => "%3f",
            "SSSSSS" => "%6f",
            "SSSSSSSSS" => "%9f",
            "a" => "%p",
            "E" | "EE" | "EEE" => "%a",
            "EEEE" => "%A",
            other => return Err(format!("`{other}`")),
        });
    }
    Ok(out)
}

fn push_text(out: &mut String, text: &str) {
    for c in text.chars() {
        if c == '%' {
            out.push('%');
        }
        out.push(c);
    }
}

/// A pattern of SIMILAR TO as a regular expression: `%` is any text, `_` any character, `| * + ? { } ( ) [ ]` are as in
/// one, and it is of the whole text. A `\` makes what follows mean itself.
pub(crate) fn similar(pattern: &str) -> String {
    let mut out = String::from("^(?s:");
    let mut characters = pattern.chars();
    let mut in_brackets = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' => out.push_str(&regex_literal(characters.next().unwrap_or('\\'))),
            '[' if !in_brackets => {
                in_brackets = true;
                out.push('[');
            }
            ']' if in_brackets => {
                in_brackets = false;
                out.push(']');
            }
            other if in_brackets => out.push(other),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '|' | '*' | '+' | '?' | '{' | '}' | ')' => out.push(c),
            other => out.push_str(&regex_literal(other)),
        }
    }
    out.push_str(")$");
    out
}

fn regex_literal(c: char) -> String {
    if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_java_become_those_of_strftime() {
        for (java, wanted) in [
            ("yyyy-MM-dd HH:mm:ss", "%Y-%m-%d %H:%M:%S"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "%Y-%m-%dT%H:%M:%S.%3fZ"),
            ("d.M.yy h:mm a", "%-d.%-m.%y %-I:%M %p"),
            ("EEE, dd MMM yyyy", "%a, %d %b %Y"),
            ("'100%' ''yyyyMMdd", "100%% '%Y%m%d"),
        ] {
            assert_eq!(strftime(java).as_deref(), Ok(wanted), "{java}");
        }
        for java in ["yyy", "ss.SS", "w", "yyyy 'x", "HH:mm z"] {
            assert!(strftime(java).is_err(), "{java}");
        }
    }

    #[test]
    fn patterns_of_similar_to_become_regular_expressions() {
        for (pattern, wanted) in [
            ("a%", "^(?s:a.*)$"),
            ("(a|b)_.c", "^(?s:(?:a|b).\\.c)$"),
            ("[0-9]{2}\\%", "^(?s:[0-9]{2}\\%)$"),
            ("[^%_]^$", "^(?s:[^%_]\\^\\$)$"),
        ] {
            assert_eq!(similar(pattern), wanted, "{pattern}");
        }
    }
}
