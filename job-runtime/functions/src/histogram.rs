//! A histogram of numbers whose buckets are 1/128 of a power of two wide, for percentiles.
//!
//! A number's bucket is the first bits of its double: sign, exponent and 7 bits of the mantissa. Counting is exact, and
//! so is the rank that a percentile asks for; what is given is the middle of the bucket that holds it, which is at most
//! 1/256 (0.4 %) away from every number in it. Adding up histograms adds up counts: the result does not depend on how
//! numbers were divided among them. Buckets are integers, not logarithms, so every machine has the same ones.
//!
//! ```text
//! varint buckets · (signed bucket, as the difference to the one before · varint count)… · 8 bytes least · 8 bytes greatest
//! ```
//! without the last two where there is no bucket. Varints are LEB128, signed ones of the zigzag form; doubles are
//! little-endian.

/// How many bits of a double a bucket leaves out.
const CUT: u32 = 45;

/// Counts of numbers by bucket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Bucket and count, by bucket; counts are above 0.
    buckets: Vec<(i32, u64)>,
    least: f64,
    greatest: f64,
}

impl Histogram {
    /// Counts `value`. NaN is above every number, and −0 is 0.
    pub fn add(&mut self, value: f64) {
        let value = canonical(value);
        self.stretch(value, value);
        self.count(bucket(value), 1);
    }

    /// Adds what `other` has counted.
    pub fn absorb(&mut self, other: &Self) {
        if other.buckets.is_empty() {
            return;
        }
        self.stretch(other.least, other.greatest);
        for (bucket, count) in &other.buckets {
            self.count(*bucket, *count);
        }
    }

    fn stretch(&mut self, least: f64, greatest: f64) {
        if self.buckets.is_empty() {
            (self.least, self.greatest) = (least, greatest);
            return;
        }
        if least.total_cmp(&self.least).is_lt() {
            self.least = least;
        }
        if greatest.total_cmp(&self.greatest).is_gt() {
            self.greatest = greatest;
        }
    }

    fn count(&mut self, bucket: i32, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// About the number at rank ⌈fraction · n⌉ of the n that were counted, the first of which has rank 1; `None` when
    /// there is none. `fraction` is between 0 and 1.
    #[must_use]
    pub fn percentile(&self, fraction: f64) -> Option<f64> {
        let count: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        let rank = ((fraction * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            below += count;
            below >= rank
        });
        let value = middle(found?.0);
        Some(match value {
            value if value.total_cmp(&self.least).is_lt() => self.least,
            value if value.total_cmp(&self.greatest).is_gt() => self.greatest,
            value => value,
        })
    }

    /// Appends its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.buckets.len() as u64);
        let mut before = 0;
        for (bucket, count) in &self.buckets {
            let step = i64::from(*bucket) - before;
            before = i64::from(*bucket);
            put_varint(out, ((step << 1) ^ (step >> 63)) as u64);
            put_varint(out, *count);
        }
        if !self.buckets.is_empty() {
            out.extend_from_slice(&self.least.to_le_bytes());
            out.extend_from_slice(&self.greatest.to_le_bytes());
        }
    }

    /// Reads an encoding at `at` and moves past it; `None` when the bytes are damaged.
    #[must_use]
    pub fn decode(bytes: &[u8], at: &mut usize) -> Option<Self> {
        let mut found = Self::default();
        let mut before = None;
        for _ in 0..take_varint(bytes, at)? {
            let step = take_varint(bytes, at)?;
            let step = (step >> 1) as i64 ^ -((step & 1) as i64);
            let bucket = before.unwrap_or(0_i64).checked_add(step)?;
            if before.is_some_and(|before| bucket <= before) {
                return None;
            }
            before = Some(bucket);
            let count = take_varint(bytes, at).filter(|count| *count > 0)?;
            found.buckets.push((i32::try_from(bucket).ok()?, count));
        }
        if before.is_some() {
            found.least = take_double(bytes, at)?;
            found.greatest = take_double(bytes, at)?;
        }
        Some(found)
    }

    /// Bytes of memory behind it.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i32, u64)>()
    }
}

/// One zero and one NaN.
fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

fn bucket(value: f64) -> i32 {
    let magnitude = (value.abs().to_bits() >> CUT) as i32;
    if value.is_sign_negative() { -1 - magnitude } else { magnitude }
}

fn middle(bucket: i32) -> f64 {
    let magnitude = u64::from(if bucket < 0 { (-1 - bucket).unsigned_abs() } else { bucket.unsigned_abs() });
    let from = f64::from_bits(magnitude << CUT);
    let middle =
        if magnitude == 0 || !from.is_finite() { from } else { f64::from_bits((magnitude << CUT) | (1 << (CUT - 1))) };
    if bucket < 0 { -middle } else { middle }
}

fn put_varint(out: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_double(bytes: &[u8], at: &mut usize) -> Option<f64> {
    let double = bytes.get(*at..at.checked_add(8)?)?.try_into().ok().map(f64::from_le_bytes);
    *at += 8;
    double
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    #[test]
    fn percentiles_are_within_the_stated_error() {
        for (offset, scale) in [(0.0, 1.0), (-3_000.0, 1.0), (0.0, 1e-9), (1e15, 1e11), (-0.5, 1e-3)] {
            let mut values: Vec<f64> = (0..5_000_u32).map(|n| f64::from(n * 7_919 % 5_000) * scale + offset).collect();
            let histogram = of(values.iter().copied());
            values.sort_by(f64::total_cmp);
            for percent in [0, 1, 10, 25, 50, 75, 90, 95, 99, 100] {
                let fraction = f64::from(percent) / 100.0;
                let rank = ((fraction * 5_000.0).ceil() as usize).max(1);
                let (wanted, found) = (values[rank - 1], histogram.percentile(fraction).expect("values"));
                assert!((found - wanted).abs() <= wanted.abs() / 256.0, "{percent} %: {found}, not {wanted}");
            }
        }
    }

    #[test]
    fn ends_are_exact_and_nothing_is_none() {
        assert_eq!(of([]).percentile(0.5), None);
        assert_eq!(of([7.0, 7.0]).percentile(0.5), Some(7.0));
        let wide = of([f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, f64::INFINITY]);
        let found: Vec<_> = [0.0, 0.4, 0.6, 0.8, 1.0].into_iter().filter_map(|p| wide.percentile(p)).collect();
        assert_eq!(found[0], f64::NEG_INFINITY);
        assert_eq!((found[1], found[2]), (0.0, 0.0));
        assert!((found[3] / f64::MAX - 1.0).abs() <= 1.0 / 256.0, "{}", found[3]);
        assert_eq!(found[4], f64::INFINITY);
        assert!(of([1.0, -f64::NAN]).percentile(1.0).is_some_and(f64::is_nan));
    }

    #[test]
    fn parts_add_up_to_the_whole_and_bytes_come_back() {
        let values = |part: u32| (0..900).filter(move |n| n % 3 == part).map(|n| f64::from(n) * 1.37 - 600.0);
        let whole = of((0..3).flat_map(values));
        for order in [[0, 1, 2], [2, 0, 1]] {
            let mut sum = Histogram::default();
            order.into_iter().for_each(|part| sum.absorb(&of(values(part))));
            sum.absorb(&Histogram::default());
            assert_eq!(sum, whole);
        }
        for histogram in [whole, Histogram::default(), of([-1.0])] {
            let mut bytes = Vec::new();
            histogram.encode(&mut bytes);
            let mut at = 0;
            assert_eq!(Histogram::decode(&bytes, &mut at).as_ref(), Some(&histogram));
            assert_eq!(at, bytes.len());
            assert_eq!(Histogram::decode(&bytes[..bytes.len() - 1], &mut 0), None, "cut short");
        }
    }
}
