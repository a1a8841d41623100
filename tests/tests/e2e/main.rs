//! The appliance as its operator, its clients and its LAN see it: the real binary, started, told things, asked.
//!
//! What does not depend on where objects come from is proved twice by one body of code: from a folder and from an API
//! server (see [`ferrogate_tests::source`]).

/// Runs each of these scenarios from a folder and from an API server.
macro_rules! from_both {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            use ferrogate_tests::source::Source;

            #[tokio::test(flavor = "multi_thread")]
            async fn from_a_folder() {
                super::$scenario(Source::folder()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn from_an_api_server() {
                let Some(source) = Source::cluster() else { return };
                super::$scenario(source).await;
            }
        }
    )+};
}

mod admin;
mod bad_config;
mod bad_objects;
mod check;
mod drain;
mod endpoints;
mod external;
mod gate;
mod interfaces;
mod lan;
mod lan6;
mod probing;
mod protocols;
mod quickstart;
mod reload;
mod restart;
mod rollout;
mod shop;
mod why;
