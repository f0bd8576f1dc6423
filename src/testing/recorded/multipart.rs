//! Reads `multipart/form-data` strictly (RFC 7578): it guesses nothing that a lenient server would.

use http::{HeaderMap, header::CONTENT_TYPE};

/// The parameters of `Content-Type`, if the type is `multipart/form-data`.
pub(crate) fn parameters(headers: &HeaderMap) -> Option<&str> {
    let declared = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = declared.split_once(';').unwrap_or((declared, ""));
    essence.trim().eq_ignore_ascii_case("multipart/form-data").then_some(parameters)
}

/// The fields in the order they came. `None` for files, and for all that deviates from RFC 2046 §5.1.1 or
/// RFC 7578 §4.
pub(crate) fn fields(parameters: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let boundary = parameter(parameters, "boundary")?;
    if !(1..=70).contains(&boundary.len()) {
        return None;
    }
    // Every delimiter starts a line, the first one included.
    let body = ["\r\n", std::str::from_utf8(body).ok()?].concat();
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = body.split(&delimiter);
    if parts.next() != Some("") {
        return None;
    }
    let mut fields = Vec::new();
    while let Some(part) = parts.next() {
        if matches!(part, "--" | "--\r\n") {
            return parts.next().is_none().then_some(fields);
        }
        fields.push(field(part.strip_prefix("\r\n")?)?);
    }
    None
}

fn field(part: &str) -> Option<(String, String)> {
    let (head, value) = part.split_once("\r\n\r\n")?;
    let mut name = None;
    for line in head.split("\r\n") {
        let (header, content) = line.split_once(':')?;
        if !header.eq_ignore_ascii_case("content-disposition") {
            continue; // RFC 7578 §4.8: other headers are ignored
        }
        let (disposition, parameters) = content.split_once(';')?;
        let fits = disposition.trim().eq_ignore_ascii_case("form-data")
            && name.is_none()
            && parameter(parameters, "filename").is_none();
        name = Some(parameter(parameters, "name").filter(|_| fits)?);
    }
    Some((name?, value.to_owned()))
}

/// A parameter of a header, quoted or not. Values with escapes are not read: none of these parameters needs them.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let value = parameters.split(';').find_map(|pair| {
        let (given, value) = pair.split_once('=')?;
        given.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })?;
    let plain = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
    (!plain.contains(['"', '\\'])).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<Vec<(String, String)>> {
        fields(" boundary=xx", body.replace('\n', "\r\n").as_bytes())
    }

    const A: &str = "--xx\nContent-Disposition: form-data; name=\"a\"\n\n1\n";

    #[test]
    fn fields_are_read() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let b = "--xx\ncontent-type: text/plain\ncontent-disposition: Form-Data; name=b\n\n\nü&=+%20\n";
        let expected = vec![pair("a", "1"), pair("b", "\r\nü&=+%20")];
        assert_eq!(read(&format!("{A}{b}--xx--\n")), Some(expected));
        assert_eq!(read(&format!("{A}--xx--")), Some(vec![pair("a", "1")]));
        assert_eq!(read("--xx--\n"), Some(vec![]));
        assert_eq!(fields("charset=utf-8; Boundary=\"x x\"", b"--x x--"), Some(vec![]));
    }

    #[test]
    fn all_other_bodies_are_rejected() {
        for body in [
            "",
            "a=1",
            A, // without an end
            &format!("preamble\n{A}--xx--"),
            &format!("{A}--xx--\nepilogue"),
            &format!("{A}--xx--\n{A}--xx--"),
            &format!("{A}--xxy\n"),
            "--xx\n\n1\n--xx--", // nameless
            "--xx\nContent-Disposition: form-data\n\n1\n--xx--",
            "--xx\nContent-Disposition: attachment; name=\"a\"\n\n1\n--xx--",
            "--xx\nContent-Disposition: form-data; name=\"a\n\n1\n--xx--",
            "--xx\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\n\n1\n--xx--", // a file
            "--xx\nContent-Disposition: form-data; name=\"a\"\n1\n--xx--",                   // no empty line
        ] {
            assert_eq!(read(body), None, "{body:?}");
        }
        assert_eq!(fields("", b"--xx--"), None, "no boundary");
        assert_eq!(fields(" boundary=xx", format!("{A}--xx--").as_bytes()), None, "bare line feeds");
        assert_eq!(fields("boundary=xx", b"--xx\xff--xx--"), None);
    }
}
