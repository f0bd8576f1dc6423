//! Who takes part, in the order of the tables.

use crate::{
    candidate::Peer,
    peers::{
        aliri_reqwest::AliriReqwest,
        aws_smithy::AwsSmithy,
        azure::Azure,
        gcp_auth::GcpAuth,
        google_cloud_auth::{GoogleCloudAuth, Tagged},
        kube::Kube,
        middle::Middle,
        reqwest_middleware::ReqwestMiddleware,
        tonic_interceptor::Tonic,
        tower_bearer::{Default, WithoutRecovery},
        tower_http::TowerHttp,
        yup_oauth2::YupOauth2,
    },
};

/// Something to do with every peer. A closure can't: each peer is a type.
pub trait Visit {
    fn visit<P: Peer>(&mut self) -> impl Future<Output = ()>;
}

pub async fn each(visit: &mut impl Visit) {
    visit.visit::<TowerHttp>().await;
    visit.visit::<Default>().await;
    visit.visit::<WithoutRecovery>().await;
    visit.visit::<Middle>().await;
    visit.visit::<Tonic>().await;
    visit.visit::<AliriReqwest>().await;
    visit.visit::<ReqwestMiddleware>().await;
    visit.visit::<GoogleCloudAuth>().await;
    visit.visit::<Tagged>().await;
    visit.visit::<Azure>().await;
    visit.visit::<Kube>().await;
    visit.visit::<AwsSmithy>().await;
    visit.visit::<YupOauth2>().await;
    visit.visit::<GcpAuth>().await;
}
