//! Does IO: the API client.

use http::{Request, Response};
use kube::client::{Body, Client, ClientBuilder, DynBody};
use tower::util::BoxService;
use tower::{BoxError, Layer, Service};

/// What a layer stands on: the connection with authentication and retries of what may be retried.
pub type Connection = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// A client of the API server that `config` names. All its requests go through `layer`: the process passes
/// [`tower::layer::util::Identity`], tests pass layers that cut requests off, delay or refuse them.
///
/// # Errors
/// The configuration can't be used: a certificate or a proxy.
pub fn build<L, S>(config: kube::Config, layer: &L) -> Result<Client, kube::Error>
where
    L: Layer<Connection, Service = S>,
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    Ok(ClientBuilder::try_from(config)?.with_layer(layer).build())
}
