//! Level: real cluster. The cluster itself: it comes up from wherever it was interrupted, behaves as any cluster
//! does, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod behaviour;
mod extras;
mod kubectl;
mod life;

use std::time::{Duration, Instant};

/// No wait of these tests lasts longer, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn wait<T>(what: &str, mut reached: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match reached() {
            Ok(found) => return found,
            Err(why) => assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}, in vain: {why}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
