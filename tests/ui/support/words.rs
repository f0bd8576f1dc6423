//! What the compiler says, without what differs from machine to machine, and from one version of a dependency or line of ours to the next.

/// The width of the margin, where the compiler writes line numbers.
const MARGIN: usize = 3;

/// Without places outside of the case, and with margins of one width.
pub(crate) fn normal(said: &str) -> String {
    let here = format!("{}/", env!("CARGO_MANIFEST_DIR"));
    let said = said.replace(&here, "");
    // How many errors there were is plain, and so is how to have them explained.
    let errors =
        said.split("\n\n").filter(|error| !error.starts_with("error: aborting") && !error.starts_with("For more"));
    let errors: Vec<_> = errors.filter(|error| !error.starts_with("Some errors")).map(one).collect();
    errors.join("\n")
}

fn one(error: &str) -> String {
    let arrow = error.lines().find_map(|line| line.find("--> ").filter(|at| line[..*at].trim().is_empty()));
    let margin = arrow.unwrap_or(MARGIN);
    let mut is_outside = false;
    let mut normal = String::new();
    // Long types are cut, and each is written to a file of its own.
    let is_of_a_file = |line: &&str| line.contains("note: the full name for the type has been written to");
    let is_about_it =
        |line: &&str| line.ends_with("note: consider using `--verbose` to print the full type name to the console");
    for line in error.lines().filter(|line| !is_of_a_file(line) && !is_about_it(line)) {
        let Some((number, rest)) = line.split_at_checked(margin).filter(|(number, _)| is_margin(number)) else {
            normal.push_str(line);
            normal.push('\n');
            continue;
        };
        let mut rest = rest.to_owned();
        if let Some(place) = rest.strip_prefix("--> ").or_else(|| rest.strip_prefix("::: ")) {
            is_outside = !place.starts_with("tests/ui/");
            if is_outside {
                rest = format!("{} {}", &rest[..3], file(place));
            }
        }
        let number = if is_outside { "" } else { number.trim() };
        normal.push_str(format!("{number:>MARGIN$}{rest}").trim_end());
        normal.push('\n');
    }
    normal
}

fn is_margin(number: &str) -> bool {
    number.bytes().all(|byte| byte == b' ' || byte.is_ascii_digit())
}

/// A file of this crate as it is, one of a dependency by the dependency's name.
fn file(place: &str) -> String {
    let file = place.split(':').next().unwrap_or(place);
    let Some((_, of_crate)) = file.split_once("/registry/src/") else { return file.to_owned() };
    let mut parts = of_crate.split('/').skip(1);
    let name = parts.next().unwrap_or_default();
    let name = name.rsplit_once('-').map_or(name, |(name, _version)| name);
    format!("$CARGO/{name}/{}", parts.collect::<Vec<_>>().join("/"))
}
