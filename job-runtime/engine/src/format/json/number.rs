//! Numbers: the grammar of JSON's, and their exact values.

/// A number as it is written. Its common spellings are read while they are scanned; [`Number::exact`] reads
/// the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    text: &'a [u8],
    negative: bool,
    /// The digits as one integer; right as long as there are at most 19 of them.
    digits: u64,
    digit_count: usize,
    /// How many of the digits stand after the point.
    fraction: usize,
    exponent: bool,
}

/// Why a number is no value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoFit {
    /// It has digits after the point that the type has not.
    Fraction,
    /// It is too large.
    Range,
}

const POWERS_OF_TEN: [u64; 20] = {
    let mut powers = [1; 20];
    let mut at = 1;
    while at < 20 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

const POWERS_OF_TEN_F64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl<'a> Number<'a> {
    /// Reads the number that `bytes` begin with, and says how long it is.
    #[inline]
    pub(super) fn scan(bytes: &'a [u8]) -> Result<(Self, usize), &'static str> {
        let negative = bytes.first() == Some(&b'-');
        let mut at = usize::from(negative);
        let mut digits = 0_u64;
        let mut run = |at: &mut usize| {
            let start = *at;
            while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
                digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
                *at += 1;
            }
            *at - start
        };
        let start = at;
        let whole = run(&mut at);
        if whole == 0 {
            return Err("a number without digits");
        }
        if whole > 1 && bytes[start] == b'0' {
            return Err("a number with a leading zero");
        }
        let mut fraction = 0;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            fraction = run(&mut at);
            if fraction == 0 {
                return Err("a number without digits after its point");
            }
        }
        let exponent = matches!(bytes.get(at), Some(b'e' | b'E'));
        if exponent {
            at += 1;
            if matches!(bytes.get(at), Some(b'+' | b'-')) {
                at += 1;
            }
            let start = at;
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            if at == start {
                return Err("a number without digits in its exponent");
            }
        }
        let number = Self { text: &bytes[..at], negative, digits, digit_count: whole + fraction, fraction, exponent };
        Ok((number, at))
    }

    /// The value, when it is an integer of 64 bits.
    #[inline]
    pub(super) fn integer(&self) -> Result<i64, NoFit> {
        if self.fraction == 0 && !self.exponent && self.digit_count <= 19 {
            let value =
                if self.negative { 0_i64.checked_sub_unsigned(self.digits) } else { i64::try_from(self.digits).ok() };
            return value.ok_or(NoFit::Range);
        }
        i64::try_from(self.exact(0)?).map_err(|_| NoFit::Range)
    }

    /// The value in units of 10^−scale, when it is a DECIMAL(precision, scale).
    #[inline]
    pub(super) fn decimal(&self, precision: u8, scale: u8) -> Result<i128, NoFit> {
        let (precision, scale) = (usize::from(precision), usize::from(scale));
        let units = if !self.exponent && self.digit_count <= 19 && self.fraction <= scale && scale - self.fraction < 19
        {
            let units = i128::from(self.digits) * i128::from(POWERS_OF_TEN[scale - self.fraction]);
            if self.negative { -units } else { units }
        } else {
            self.exact(scale)?
        };
        // 10^38 and less are within 128 bits.
        if units.unsigned_abs() < 10_u128.pow(precision as u32) { Ok(units) } else { Err(NoFit::Range) }
    }

    /// The nearest double.
    #[inline]
    pub(super) fn double(&self) -> Result<f64, NoFit> {
        // Both operands are exact, so the quotient is rounded once (Clinger's fast path).
        if !self.exponent && self.digit_count <= 15 {
            let magnitude = self.digits as f64 / POWERS_OF_TEN_F64[self.fraction];
            return Ok(if self.negative { -magnitude } else { magnitude });
        }
        self.text().parse().ok().filter(|value: &f64| value.is_finite()).ok_or(NoFit::Range)
    }

    /// The nearest 32-bit float: from the text, since by way of a double it would be rounded twice.
    pub(super) fn float(&self) -> Result<f32, NoFit> {
        self.text().parse().ok().filter(|value: &f32| value.is_finite()).ok_or(NoFit::Range)
    }

    fn text(&self) -> &str {
        // Only digits, signs, a point and an `e` were scanned.
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    /// The value in units of 10^−scale, from any spelling, without rounding.
    pub(super) fn exact(&self, scale: usize) -> Result<i128, NoFit> {
        let text = &self.text[usize::from(self.negative)..];
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], saturating_exponent(&text[at + 1..])),
            None => (text, 0),
        };
        // Without its trailing zeros, so that they cost neither range nor scale.
        let digits = || mantissa.iter().filter(|byte| **byte != b'.');
        let count = digits().count();
        let trailing = digits().rev().take_while(|byte| **byte == b'0').count();
        if trailing == count {
            return Ok(0);
        }
        let power = (exponent + trailing as i64) - self.fraction as i64 + scale as i64;
        if power < 0 {
            return Err(NoFit::Fraction);
        }
        let units = digits()
            .take(count - trailing)
            .try_fold(0_u128, |units, byte| units.checked_mul(10)?.checked_add(u128::from(byte - b'0')))
            .ok_or(NoFit::Range)?;
        let shift = u32::try_from(power).ok().and_then(|power| 10_u128.checked_pow(power)).ok_or(NoFit::Range)?;
        let units = units.checked_mul(shift).and_then(|units| i128::try_from(units).ok()).ok_or(NoFit::Range)?;
        Ok(if self.negative { -units } else { units })
    }
}

/// An exponent, at most a few times what any length of digits could make up for.
fn saturating_exponent(text: &[u8]) -> i64 {
    const ENOUGH: i64 = 1 << 40;
    let magnitude = text
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .fold(0, |value: i64, byte| (value * 10 + i64::from(byte - b'0')).min(ENOUGH));
    if text.first() == Some(&b'-') { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number<'_> {
        let (number, len) = Number::scan(text.as_bytes()).expect(text);
        assert_eq!(len, text.len(), "{text}");
        number
    }

    #[test]
    fn integers_are_judged_by_value() {
        for (text, value) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("-0.0e5", Ok(0)),
            ("1.0", Ok(1)),
            ("1e3", Ok(1000)),
            ("-1.5e1", Ok(-15)),
            ("1000e-3", Ok(1)),
            ("0.000e999999999999999999999", Ok(0)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775807.000000000000000000000000000000000000000000", Ok(i64::MAX)),
            ("9223372036854775808", Err(NoFit::Range)),
            ("-9223372036854775809", Err(NoFit::Range)),
            ("18446744073709551617", Err(NoFit::Range)),
            ("1e999999999999999999999", Err(NoFit::Range)),
            ("1e-999999999999999999999", Err(NoFit::Fraction)),
            ("1.5", Err(NoFit::Fraction)),
            ("15e-1", Err(NoFit::Fraction)),
            ("0.0000000000000000000000000000000000000000000000000000000000001", Err(NoFit::Fraction)),
        ] {
            assert_eq!(number(text).integer(), value, "{text}");
        }
    }

    #[test]
    fn decimals_keep_every_digit() {
        for (text, precision, scale, value) in [
            ("12.34", 12, 2, Ok(1234)),
            ("12.3", 12, 2, Ok(1230)),
            ("-12", 12, 2, Ok(-1200)),
            ("12.340", 12, 2, Ok(1234)),
            ("1.234e1", 12, 2, Ok(1234)),
            ("9999999999.99", 12, 2, Ok(999_999_999_999)),
            ("10000000000", 12, 2, Err(NoFit::Range)),
            ("12.345", 12, 2, Err(NoFit::Fraction)),
            ("0.001", 12, 2, Err(NoFit::Fraction)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(10_i128.pow(38) - 1)),
            ("-0.99999999999999999999999999999999999999", 38, 38, Ok(1 - 10_i128.pow(38))),
            ("100000000000000000000000000000000000000", 38, 0, Err(NoFit::Range)),
            ("1", 38, 38, Err(NoFit::Range)),
            ("5e-38", 38, 38, Ok(5)),
            ("12345678901234567890", 20, 0, Ok(12_345_678_901_234_567_890)),
        ] {
            assert_eq!(number(text).decimal(precision, scale), value, "{text}");
        }
    }

    #[test]
    fn floats_are_the_nearest() {
        for text in [
            "0.1",
            "-0.0",
            "123456789012345",
            "1.7976931348623157e308",
            "5e-324",
            "0.3000000000000000444",
            "9007199254740993",
        ] {
            let wanted: f64 = text.parse().expect(text);
            assert_eq!(number(text).double().map(f64::to_bits), Ok(wanted.to_bits()), "{text}");
        }
        // A little above half-way between two floats: by way of a double it would be exactly half-way, and go
        // down to the even one.
        assert_eq!(number("1.000000059604644775390625000000000000001").float(), Ok(1.000_000_1));
        assert_eq!(number("1e400").double(), Err(NoFit::Range));
        assert_eq!(number("-1e39").float(), Err(NoFit::Range));
    }

    #[test]
    fn other_spellings_are_no_numbers() {
        for text in ["", "-", "+1", ".5", "1.", "1.e3", "01", "-01", "1e", "1e+", "--1", "NaN", "Infinity"] {
            assert!(Number::scan(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(Number::scan(b"1x").map(|(_, len)| len), Ok(1), "what follows is for the caller to judge");
    }
}
