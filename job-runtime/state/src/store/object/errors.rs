//! Errors of `object_store`, sorted by what the caller can do about them, and without secrets.

use std::error::Error as _;

use object_store::Error;

use crate::store::StoreError;

/// "Not found" means that there is no such object, unless the server says that something else was not found: the
/// bucket, or whoever the access key belongs to (some servers answer so to a key that they don't know).
pub(super) fn none_or_unusable<T>(path: &str, error: &Error) -> Result<Option<T>, StoreError> {
    match tag(&full_text(error), "Code") {
        Some("NoSuchKey") | None => Ok(None),
        Some(_) => Err(classify(path, error)),
    }
}

/// What an S3 server's answer holds in `<name>`.
fn tag<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let from = text.find(&format!("<{name}>"))? + name.len() + 2;
    Some(&text[from..from + text[from..].find("</")?])
}

pub(super) fn classify(path: &str, error: &Error) -> StoreError {
    let text = format!("{path}: {}", plain_text(error));
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Unauthorised(text),
        Error::NotFound { .. } if full_text(error).contains("UserNotFound") => StoreError::Unauthorised(text),
        Error::NotFound { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. }
        | Error::NotImplemented { .. }
        | Error::NotSupported { .. } => StoreError::Unusable(text),
        _ => classify_cause(error, text),
    }
}

/// Goes by the operating system's error and by what S3 servers answer, where `object_store` has only a
/// generic error.
fn classify_cause(error: &Error, text: String) -> StoreError {
    use std::io::ErrorKind;
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::PermissionDenied => return StoreError::Unauthorised(text),
                ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::ReadOnlyFilesystem => {
                    return StoreError::Unusable(text);
                }
                _ => {}
            }
        }
        cause = source.source();
    }
    let full = full_text(error);
    let names = |codes: &[&str]| codes.iter().any(|code| full.contains(code));
    // A refused listing is a generic error, where a refused read or write is not.
    let refused = ["401 Unauthorized", "403 Forbidden", "InvalidAccessKeyId", "UserNotFound"];
    let without_credentials = ["CredentialsNotLoaded", "Error performing token request", "Missing credentials"];
    if names(&refused) || names(&without_credentials) {
        StoreError::Unauthorised(text)
    } else if names(&["NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "without LOCATION", "400 Bad Request"])
    {
        StoreError::Unusable(text)
    } else {
        StoreError::Unavailable(text)
    }
}

/// The error and all that caused it.
fn full_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

/// The error for people: of a server's XML only its code and message (the rest may echo an access key's id
/// and the signed request), without credentials in URLs, on one line.
pub(super) fn plain_text(error: &Error) -> String {
    let text = full_text(error);
    let short = match text.find("<?xml").or_else(|| text.find("<Error")) {
        None => text.clone(),
        Some(at) => {
            let answer =
                [tag(&text, "Code"), tag(&text, "Message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
            format!("{}{answer}", &text[..at])
        }
    };
    let short: String = short.split_whitespace().collect::<Vec<_>>().join(" ");
    without_user_info(&short).chars().take(600).collect()
}

fn without_user_info(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(['/', ' ', '?', '"', ')']).unwrap_or(after.len());
        rest = after[..end].rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hold_no_secrets() {
        let body = "Error performing PUT http://me:hunter2@s3:7070/b/x in 1ms - Server returned non-2xx status code: \
                    403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The \
                    signature is wrong.</Message><AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId></Error>";
        let error = Error::PermissionDenied { path: "b/x".into(), source: body.into() };
        let StoreError::Unauthorised(text) = classify("x", &error) else { panic!("{error:?} is a refusal") };
        assert!(text.contains("SignatureDoesNotMatch: The signature is wrong."), "{text}");
        assert!(!text.contains("AKIAEXAMPLE") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_bucket_that_is_not_there_is_not_an_empty_one() {
        let missing =
            |code: &str| Error::NotFound { path: "x".into(), source: format!("<Error><Code>{code}</Code>").into() };
        assert_eq!(none_or_unusable::<()>("x", &missing("NoSuchKey")), Ok(None));
        assert!(matches!(none_or_unusable::<()>("x", &missing("NoSuchBucket")), Err(StoreError::Unusable(_))));
        // A key that the server does not know is not an empty store either.
        let unknown = none_or_unusable::<()>("x", &missing("XAdminUserNotFound"));
        assert!(matches!(unknown, Err(StoreError::Unauthorised(_))), "{unknown:?}");
    }
}
