// The pages are files in `docs/guide`, so that they can be read without rustdoc. The links at their ends lead to other files. `links.md`
// comes first here, because the first definition of a link counts (CommonMark §4.7). `tests/guide.rs` checks that it defines them all.
#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../docs/guide/README.md")]

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/choose_a_grant.md")]
pub mod choose_a_grant {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/one_token_or_many.md")]
pub mod one_token_or_many {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/stores.md")]
pub mod stores {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/stacks.md")]
pub mod stacks {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/after_a_401.md")]
pub mod after_a_401 {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/test_your_program.md")]
pub mod test_your_program {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/operate_it.md")]
pub mod operate_it {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/security.md")]
pub mod security {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/write_your_own.md")]
pub mod write_your_own {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/migrate.md")]
pub mod migrate {}
