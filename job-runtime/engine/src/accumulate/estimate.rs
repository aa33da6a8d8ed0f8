//! About how many values differ: HyperLogLog with 2¹² registers (P. Flajolet and others, 2007), read by the estimator of
//! O. Ertl (2017), which needs no tables. The standard error is 1.6 %.
//!
//! Up to 256 different values are kept as their hashes, and counted exactly. Which form a sketch has depends only on the
//! values that it has seen, not on their order or on how they were divided, and so does its estimate. A value's hash is
//! one of its encoding as a key, and the same for ever: sketches are stored.
//!
//! ```text
//! 00 · varint hashes · (8 bytes little-endian)…, ascending
//! 01 · 4096 registers, a byte each
//! ```

use freshet_state::rows::{put_varint, take_bytes, take_varint};

use super::states::State;

const BITS: u32 = 12;
const REGISTERS: usize = 1 << BITS;
const MAX_HASHES: usize = 256;
/// The greatest value of a register: one more than the bits that may be 0 before the first 1.
const MAX_RANK: u8 = 64 - BITS as u8 + 1;

/// A sketch of different values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Estimate {
    /// The hashes, ascending.
    Hashes(Vec<u64>),
    Registers(Box<[u8; REGISTERS]>),
}

impl Default for Estimate {
    fn default() -> Self {
        Self::Hashes(Vec::new())
    }
}

/// A hash of 64 bits: FNV-1a, its bits then mixed as SplitMix64 does.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn register(registers: &mut [u8; REGISTERS], hash: u64) {
    let rank = ((hash << BITS) | (1 << (BITS - 1))).leading_zeros() as u8 + 1;
    let register = &mut registers[(hash >> (64 - BITS)) as usize];
    *register = (*register).max(rank);
}

impl Estimate {
    pub(super) fn add(&mut self, hash: u64) {
        match self {
            Self::Registers(registers) => register(registers, hash),
            Self::Hashes(hashes) => {
                let Err(at) = hashes.binary_search(&hash) else { return };
                hashes.insert(at, hash);
                if hashes.len() > MAX_HASHES {
                    let mut registers = Box::new([0; REGISTERS]);
                    hashes.iter().for_each(|hash| register(&mut registers, *hash));
                    *self = Self::Registers(registers);
                }
            }
        }
    }

    pub(super) fn count(&self) -> i64 {
        match self {
            Self::Hashes(hashes) => hashes.len() as i64,
            Self::Registers(registers) => estimate(registers).round() as i64,
        }
    }
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut counts = [0_u32; MAX_RANK as usize + 1];
    registers.iter().for_each(|rank| counts[usize::from((*rank).min(MAX_RANK))] += 1);
    let all = REGISTERS as f64;
    let mut sum = all * tau(1.0 - f64::from(counts[usize::from(MAX_RANK)]) / all);
    for count in counts[1..usize::from(MAX_RANK)].iter().rev() {
        sum = (sum + f64::from(*count)) / 2.0;
    }
    sum += all * sigma(f64::from(counts[0]) / all);
    all / (2.0 * std::f64::consts::LN_2) * all / sum
}

/// x + x²·1 + x⁴·2 + x⁸·4 + …
fn sigma(mut x: f64) -> f64 {
    let (mut sum, mut weight) = (x, 1.0);
    while x < 1.0 {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum <= before {
            return sum;
        }
    }
    f64::INFINITY
}

/// (1 − x − (1 − x^½)²/2 − (1 − x^¼)²/4 − …) / 3
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut rest, mut weight) = (1.0 - x, 1.0);
    loop {
        x = x.sqrt();
        weight /= 2.0;
        let before = rest;
        rest -= (1.0 - x) * (1.0 - x) * weight;
        if rest >= before {
            return rest / 3.0;
        }
    }
}

impl State for Estimate {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hashes(hashes) => {
                out.push(0);
                put_varint(out, hashes.len() as u64);
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Self::Registers(registers) => {
                out.push(1);
                out.extend_from_slice(registers.as_slice());
            }
        }
    }

    fn merge(&mut self, bytes: &[u8], at: &mut usize) -> Option<bool> {
        let kind = *bytes.get(*at)?;
        *at += 1;
        match kind {
            0 => {
                for _ in 0..take_varint(bytes, at)? {
                    self.add(u64::from_le_bytes(take_bytes(bytes, at, 8)?.try_into().ok()?));
                }
            }
            1 => {
                let registers: [u8; REGISTERS] = take_bytes(bytes, at, REGISTERS as u64)?.try_into().ok()?;
                if registers.iter().any(|rank| *rank > MAX_RANK) {
                    return None;
                }
                self.absorb(&Self::Registers(Box::new(registers)));
            }
            _ => return None,
        }
        Some(false)
    }

    fn absorb(&mut self, other: &Self) -> bool {
        match other {
            Self::Hashes(hashes) => hashes.iter().for_each(|hash| self.add(*hash)),
            Self::Registers(others) => {
                let mut registers = others.clone();
                match self {
                    Self::Hashes(hashes) => hashes.iter().for_each(|hash| register(&mut registers, *hash)),
                    Self::Registers(own) => registers.iter_mut().zip(own.iter()).for_each(|(a, b)| *a = (*a).max(*b)),
                }
                *self = Self::Registers(registers);
            }
        }
        false
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Hashes(hashes) => hashes.capacity() * size_of::<u64>(),
            Self::Registers(_) => REGISTERS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: impl IntoIterator<Item = u64>) -> Estimate {
        let mut estimate = Estimate::default();
        numbers.into_iter().for_each(|number| estimate.add(hash(&number.to_be_bytes())));
        estimate
    }

    #[test]
    fn few_are_counted_exactly_and_many_nearly() {
        for n in [0, 1, 255, 256] {
            assert_eq!(of((0..n).chain(0..n)).count(), n as i64);
        }
        for n in [257_u64, 500, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000] {
            let errors = (0..8).map(|part| {
                let found = of((0..n).map(|number| (number << 8) | part)).count();
                found as f64 / n as f64 - 1.0
            });
            let errors: Vec<f64> = errors.collect();
            let spread = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
            assert!(spread < 0.03, "{n}: {errors:?}");
        }
    }

    #[test]
    fn the_division_of_values_makes_no_difference_and_bytes_come_back() {
        for n in [100, 256, 257, 5_000] {
            let whole = of(0..n);
            for parts in [1, 3, 50] {
                let mut sum = Estimate::default();
                for part in (0..parts).rev() {
                    let mut bytes = Vec::new();
                    of((0..n).filter(|number| number % parts == part)).encode(&mut bytes);
                    let mut at = 0;
                    assert_eq!(sum.merge(&bytes, &mut at), Some(false));
                    assert_eq!(at, bytes.len());
                    assert_eq!(Estimate::default().merge(&bytes[..bytes.len() - 1], &mut 0), None, "cut short");
                }
                assert_eq!(sum, whole, "{n} in {parts}");
            }
        }
    }

    #[test]
    fn hashes_stay_what_they_are() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"\x06\x01a"), 0xa3de_9442_86bd_23e6);
    }
}
