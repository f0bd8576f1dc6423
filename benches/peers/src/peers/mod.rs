//! Each way to put a live token on a request, a file each. None may look worse here than it is: each is set up as its documentation
//! says, and what it doesn't do itself (asking the token endpoint, putting a string into a header) is done for it as its users do.

mod service_account;
mod token_request;

pub mod aliri_reqwest;
pub mod aws_smithy;
pub mod azure;
pub mod gcp_auth;
pub mod google_cloud_auth;
pub mod kube;
pub mod middle;
pub mod reqwest_middleware;
pub mod tonic_interceptor;
pub mod tower_bearer;
pub mod tower_http;
pub mod yup_oauth2;
