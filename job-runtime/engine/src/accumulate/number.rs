//! Numbers of state and partial aggregates: LEB128 of the zigzag form, up to 128 bits.

/// Appends a signed number: small ones, of either sign, take few bytes.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i128) {
    let mut rest = ((value << 1) ^ (value >> 127)) as u128;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a signed number at `at` and moves past it; `None` when it is cut short or too long.
pub(crate) fn take_signed(bytes: &[u8], at: &mut usize) -> Option<i128> {
    let mut rest = 0_u128;
    for shift in (0..128).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        rest |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((rest >> 1) as i128 ^ -((rest & 1) as i128));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, -1, 63, -64, 64, i128::from(i64::MAX), i128::from(i64::MIN), i128::MAX, i128::MIN] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, value);
            let mut at = 0;
            assert_eq!(take_signed(&bytes, &mut at), Some(value));
            assert_eq!(at, bytes.len());
            assert_eq!(take_signed(&bytes[..bytes.len() - 1], &mut 0), None, "{value} cut short");
        }
    }
}
