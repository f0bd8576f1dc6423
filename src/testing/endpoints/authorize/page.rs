//! The pages of the authorization endpoint. They are plain, and work with a keyboard and a screen reader.

use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION},
};

use super::consent::Consent;
use crate::testing::reply::Reply;

/// Asks the user. The form is posted to the URL of the page, query included. Its only field is `decision`.
pub(crate) fn question(consent: &Consent) -> Reply {
    let subject = &consent.authorization.subject;
    let client = escaped(&subject.client);
    let scope = subject.scope.as_deref().unwrap_or_default();
    let names: String =
        scope.split_whitespace().map(|name| format!("<li><code>{}</code></li>", escaped(name))).collect();
    let scopes = match names.as_str() {
        "" => "<p>It asks for no particular scope.</p>".to_owned(),
        names => format!("<p>It asks for:</p><ul>{names}</ul>"),
    };
    let back = escaped(consent.redirect_uri());
    let title = format!("Allow {client}?");
    let content = format!(
        "<p><strong>{client}</strong> wants to act on your behalf.</p>{scopes}\
         <p>The answer goes to <code>{back}</code>.</p>\
         <form method=\"post\">\
         <button type=\"submit\" name=\"decision\" value=\"allow\" id=\"allow\">Allow</button> \
         <button type=\"submit\" name=\"decision\" value=\"deny\" id=\"deny\">Deny</button>\
         </form>"
    );
    page(StatusCode::OK, &title, &content)
}

/// Says why the user is not asked.
pub(crate) fn error(what: &str) -> Reply {
    page(StatusCode::BAD_REQUEST, "This request can’t be authorized", &format!("<p>{}</p>", escaped(what)))
}

/// Redirects the browser.
pub(crate) fn redirect(url: &str) -> Reply {
    match HeaderValue::from_str(url) {
        Ok(url) => Reply::new(StatusCode::FOUND).header(LOCATION, url).header(CACHE_CONTROL, NO_STORE),
        Err(_) => error("The redirect_uri can't be put into a header."),
    }
}

fn page(status: StatusCode, title: &str, content: &str) -> Reply {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{content}</main></body></html>"
    );
    Reply::new(status)
        .body(HeaderValue::from_static("text/html; charset=utf-8"), html)
        .header(CACHE_CONTROL, NO_STORE)
        .header(CONTENT_SECURITY_POLICY, POLICY)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// RFC 9700 §4.16: no other site may show the page in a frame.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");

/// Contrast and target sizes meet WCAG 2.2 AA.
const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;margin:3rem 1.5rem}\
                     main{max-width:36rem;margin:auto}code{overflow-wrap:anywhere}\
                     button{font:inherit;min-width:7rem;padding:.6rem 1.2rem;margin:.3rem .3rem 0 0;\
                     border:2px solid #1a4fa0;border-radius:.4rem;background:#fff;color:#1a4fa0;cursor:pointer}\
                     #allow{background:#1a4fa0;color:#fff}\
                     button:focus-visible{outline:3px solid #c05000;outline-offset:3px}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_in_parameters_is_escaped() {
        assert_eq!(escaped("<a href='x\"'>&"), "&lt;a href=&#39;x&quot;&#39;&gt;&amp;");
    }

    #[test]
    fn a_url_that_does_not_fit_into_a_header_is_an_error() {
        assert_eq!(redirect("http://127.0.0.1/\n").status, StatusCode::BAD_REQUEST);
        assert_eq!(redirect("http://127.0.0.1/").status, StatusCode::FOUND);
    }
}
