//! Which versions of the peers were built: as Cargo.lock says it.

use std::collections::BTreeMap;

/// The versions of what this package depends on itself.
#[derive(Clone, Debug)]
pub struct Versions(BTreeMap<String, Vec<String>>);

impl Versions {
    /// Reads a lock file; `package` is the one whose dependencies matter.
    pub fn read(lock: &str, package: &str) -> Self {
        let packages: Vec<_> = lock.split("[[package]]").map(Package::read).collect();
        let mut versions = BTreeMap::<_, Vec<_>>::new();
        let wanted = packages.iter().find(|each| each.name == package).map(|each| each.dependencies.as_slice());
        for dependency in wanted.unwrap_or_default() {
            // `name`, or `name version` where there are several.
            let (name, version) = dependency.split_once(' ').unwrap_or((dependency, ""));
            for each in packages.iter().filter(|each| each.name == name) {
                if version.is_empty() || each.version == version {
                    versions.entry(name.to_owned()).or_default().push(each.version.clone());
                }
            }
        }
        Self(versions)
    }

    /// The newest first, where several are used.
    pub fn of(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.last().map(String::as_str)
    }
}

#[derive(Debug, Default)]
struct Package {
    name: String,
    version: String,
    dependencies: Vec<String>,
}

impl Package {
    fn read(text: &str) -> Self {
        let mut package = Self::default();
        for line in text.lines() {
            let quoted = || line.split('"').nth(1).unwrap_or_default().to_owned();
            match line {
                line if line.starts_with("name = ") => package.name = quoted(),
                line if line.starts_with("version = ") => package.version = quoted(),
                line if line.starts_with(" \"") => package.dependencies.push(quoted()),
                _ => {}
            }
        }
        package
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "middleware"
version = "0.4.2"

[[package]]
name = "middleware"
version = "0.5.0"
dependencies = [
 "other",
]

[[package]]
name = "other"
version = "9.9.9"

[[package]]
name = "ours"
version = "0.0.0"
dependencies = [
 "middleware 0.4.2",
 "middleware 0.5.0",
]
"#;

    #[test]
    fn versions_are_those_of_the_package_itself() {
        let versions = Versions::read(LOCK, "ours");
        assert_eq!(versions.of("middleware"), Some("0.5.0"));
        assert_eq!(versions.of("other"), None);
    }
}
