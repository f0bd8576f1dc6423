//! What was measured, as a document and plots. Data in, text out: nothing here measures.

pub mod benches;
pub mod document;
pub mod machine;
pub mod plot;
pub mod results;
pub mod versions;

mod better;
mod table;
