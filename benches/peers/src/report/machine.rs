//! What it was measured on.

use std::{fs, process::Command, thread};

#[derive(Clone, Debug)]
pub struct Machine {
    pub processor: String,
    pub threads: usize,
    pub system: String,
    pub rustc: String,
}

impl Machine {
    /// This one. What can't be found out is called unknown.
    pub fn here() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let rustc = Command::new("rustc").arg("--version").output();
        Self {
            processor: processor(&information).unwrap_or_else(|| "unknown".into()),
            threads: thread::available_parallelism().map_or(0, Into::into),
            system: format!("{} {} {}", std::env::consts::OS, release.trim(), std::env::consts::ARCH),
            rustc: rustc.map_or_else(|_| "unknown".into(), |out| String::from_utf8_lossy(&out.stdout).trim().into()),
        }
    }
}

fn processor(information: &str) -> Option<String> {
    let line = information.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_the_first_named() {
        let information = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nmodel name\t: Other\n";
        assert_eq!(processor(information).as_deref(), Some("Some CPU @ 2 GHz"));
        assert_eq!(processor(""), None);
    }
}
