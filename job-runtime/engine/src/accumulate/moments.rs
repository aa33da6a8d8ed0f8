//! Variances: what is kept of a group's values to know how far they lie from their mean.

use arrow::datatypes::i256;
use freshet_state::rows::{put_varint, take_bytes, take_varint};

use super::cells::{put_float, take_float};
use super::number::{put_signed, take_signed};
use super::spec::Spread;
use super::states::State;

/// Of integers and decimals, exactly: `varint count · signed sum · 32 bytes sum of squares, little-endian`, without the
/// last two where the count is 0. Decimals are unscaled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moments {
    count: u64,
    sum: i128,
    squares: i256,
}

impl Moments {
    /// Adds a value; whether a sum overflows.
    pub(super) fn add(&mut self, value: i128) -> bool {
        let wide = i256::from_i128(value);
        self.add_all(&Self { count: 1, sum: value, squares: wide.wrapping_mul(wide) })
    }

    fn add_all(&mut self, other: &Self) -> bool {
        let (Some(count), Some(sum), Some(squares)) = (
            self.count.checked_add(other.count),
            self.sum.checked_add(other.sum),
            self.squares.checked_add(other.squares),
        ) else {
            return true;
        };
        *self = Self { count, sum, squares };
        false
    }

    /// The variance or its root, of values with `scale` digits after the point: `None` of nothing, and of a sample of
    /// one. What does not fit 256 bits is an error.
    pub(super) fn finish(&self, spread: Spread, scale: u8) -> Result<Option<f64>, ()> {
        let Self { count, sum, squares } = *self;
        if count == 0 || (spread.sample && count == 1) {
            return Ok(None);
        }
        let (wide, total) = (i256::from_i128(i128::from(count)), i256::from_i128(sum));
        // n·Σx² − (Σx)², over n² or n·(n − 1).
        let squared = total.checked_mul(total).ok_or(())?;
        let above = wide.checked_mul(squares).and_then(|product| product.checked_sub(squared)).ok_or(())?;
        let below = count as f64 * (count - u64::from(spread.sample)) as f64;
        let unit = 10_f64.powi(i32::from(scale));
        let variance = to_double(above) / below / unit / unit;
        Ok(Some(if spread.root { variance.sqrt() } else { variance }))
    }
}

/// A number that is not negative as the nearest double, but for its last bit.
fn to_double(value: i256) -> f64 {
    let (low, high) = value.to_parts();
    high as f64 * 2_f64.powi(128) + low as f64
}

impl State for Moments {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        if self.count > 0 {
            put_signed(out, self.sum);
            out.extend_from_slice(&self.squares.to_le_bytes());
        }
    }

    fn merge(&mut self, bytes: &[u8], at: &mut usize) -> Option<bool> {
        let count = take_varint(bytes, at)?;
        if count == 0 {
            return Some(false);
        }
        let sum = take_signed(bytes, at)?;
        let squares = i256::from_le_bytes(take_bytes(bytes, at, 32)?.try_into().ok()?);
        Some(self.add_all(&Self { count, sum, squares }))
    }

    fn absorb(&mut self, other: &Self) -> bool {
        self.add_all(other)
    }
}

/// Of floats: `varint count · 8 bytes mean · 8 bytes sum of squared distances from it`, without the last two where the
/// count is 0. Two are put together as B. P. Welford and T. Chan have it: the distances from the common mean are those
/// from the own one, and what lies between the two.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FloatMoments {
    count: u64,
    mean: f64,
    distances: f64,
}

impl FloatMoments {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.distances += before * (value - self.mean);
    }

    /// The variance or its root; `None` of nothing, and of a sample of one.
    pub(super) fn finish(&self, spread: Spread) -> Option<f64> {
        if self.count == 0 || (spread.sample && self.count == 1) {
            return None;
        }
        let variance = self.distances / (self.count - u64::from(spread.sample)) as f64;
        Some(if spread.root { variance.sqrt() } else { variance })
    }
}

impl State for FloatMoments {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        if self.count > 0 {
            put_float(out, self.mean);
            put_float(out, self.distances);
        }
    }

    fn merge(&mut self, bytes: &[u8], at: &mut usize) -> Option<bool> {
        let count = take_varint(bytes, at)?;
        if count == 0 {
            return Some(false);
        }
        let (mean, distances) = (take_float(bytes, at)?, take_float(bytes, at)?);
        Some(self.absorb(&Self { count, mean, distances }))
    }

    fn absorb(&mut self, other: &Self) -> bool {
        if other.count == 0 {
            return false;
        }
        if self.count == 0 {
            *self = *other;
            return false;
        }
        let (own, others) = (self.count as f64, other.count as f64);
        let between = other.mean - self.mean;
        self.count += other.count;
        self.mean += between * (others / (own + others));
        self.distances += other.distances + between * between * own * (others / (own + others));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POPULATION: Spread = Spread { sample: false, root: false };
    const SAMPLE: Spread = Spread { sample: true, root: false };

    #[test]
    fn exact_variances_do_not_lose_small_differences_of_large_numbers() {
        let mut moments = Moments::default();
        assert_eq!(moments.finish(POPULATION, 0), Ok(None));
        for value in [1_000_000_000_000_000_001, 1_000_000_000_000_000_003] {
            assert!(!moments.add(value));
        }
        assert_eq!(moments.finish(POPULATION, 0), Ok(Some(1.0)));
        assert_eq!(moments.finish(SAMPLE, 0), Ok(Some(2.0)));
        assert_eq!(moments.finish(SAMPLE, 2), Ok(Some(0.0002)));
        assert_eq!(moments.finish(Spread { sample: false, root: true }, 0), Ok(Some(1.0)));
    }

    #[test]
    fn sums_that_leave_their_bits_are_told() {
        let mut moments = Moments::default();
        assert!(!moments.add(i128::MAX));
        assert!(moments.add(1));
        let mut moments = Moments::default();
        let most = 10_i128.pow(38) - 1;
        let overflows = [most, -most, most, -most, most, -most, most, -most].map(|value| moments.add(value));
        assert!(overflows.contains(&true));
    }

    #[test]
    fn parts_come_to_the_same_as_the_whole() {
        let values: Vec<f64> = (0..1_000).map(|n| f64::from(n * 37 % 1_000) / 8.0 - 60.0).collect();
        let of = |values: &[f64]| {
            let mut moments = FloatMoments::default();
            values.iter().for_each(|value| moments.add(*value));
            moments
        };
        let (mut bytes, mut parts) = (Vec::new(), of(&[]));
        for part in values.chunks(70) {
            bytes.clear();
            of(part).encode(&mut bytes);
            assert_eq!(parts.merge(&bytes, &mut 0), Some(false));
        }
        parts.absorb(&FloatMoments::default());
        let (whole, parts) = (of(&values).finish(SAMPLE).expect("values"), parts.finish(SAMPLE).expect("values"));
        assert!((whole / parts - 1.0).abs() < 1e-12, "{whole} {parts}");
        assert_eq!(of(&[5.0]).finish(SAMPLE), None);
        assert_eq!(of(&[5.0]).finish(POPULATION), Some(0.0));
    }
}
