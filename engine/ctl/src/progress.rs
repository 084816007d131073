//! A bar on standard error, where that is a terminal and nobody asked for JSON.

use std::io::{IsTerminal, Write};

/// Characters of the bar.
const WIDTH: u64 = 30;

pub struct Progress {
    is_shown: bool,
}

impl Progress {
    pub fn new(json: bool) -> Progress {
        Progress {
            is_shown: !json && std::io::stderr().is_terminal(),
        }
    }

    pub fn show(&self, done: u64, total: u64, text: &str) {
        if self.is_shown {
            // Nobody reads standard error: the result is on standard output.
            let _ = write!(std::io::stderr(), "\r\x1b[K{} {text}", bar(done, total));
        }
    }

    pub fn clear(&self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let filled = match total {
        0 => WIDTH,
        _ => (u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total)) as u64,
    };
    let marks = "#".repeat(filled as usize);
    format!("[{marks:<width$}]", width = WIDTH as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_never_longer() {
        let marks = |done, total| bar(done, total).matches('#').count();
        assert_eq!(marks(0, 10), 0);
        assert_eq!(marks(5, 10), 15);
        assert_eq!(marks(10, 10), 30);
        assert_eq!(marks(11, 10), 30);
        assert_eq!(marks(0, 0), 30);
        assert_eq!(marks(u64::MAX, u64::MAX), 30);
    }
}
