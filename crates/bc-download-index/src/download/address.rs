//! The URL of a version.

use bc_formats::index::Version;

/// Returns the URL that the list names, or the template filled in with that URL and the id. Returns `None` if the list names
/// no URL and one is needed.
pub fn address(template: &str, version: &Version) -> Option<String> {
    let source = version.source_url.as_deref();
    if template.is_empty() {
        return source.map(str::to_owned);
    }
    let needs_source = template.contains("{source_url}");
    let with_id = template.replace("{id}", &version.version_id);
    if needs_source { Some(with_id.replace("{source_url}", source?)) } else { Some(with_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_from_the_list_unless_a_template_is_given() {
        let mut version = Version::new("0_1", "0");
        assert_eq!(address("", &version), None);
        assert_eq!(address("https://a/{id}", &version).unwrap(), "https://a/0_1");
        assert_eq!(address("https://a/?of={source_url}", &version), None);
        version.source_url = Some("https://b/c".to_owned());
        assert_eq!(address("", &version).unwrap(), "https://b/c");
        assert_eq!(address("https://a/{id}", &version).unwrap(), "https://a/0_1");
        assert_eq!(address("https://a/?of={source_url}", &version).unwrap(), "https://a/?of=https://b/c");
    }
}
