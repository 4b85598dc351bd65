//! The provider of the helpers, with the features of this build.

use super::*;

#[test]
fn the_helpers_use_the_provider_that_a_feature_names_and_ring_with_both() {
    let named = match cfg!(feature = "ring") {
        true => "Ring",
        false => "AwsLcRs",
    };
    let client = trusting(RootCertStore::empty()).unwrap();
    for provider in [provider(), client.crypto_provider().clone()] {
        assert_eq!(format!("{:?}", provider.key_provider), named);
    }
    assert!(CryptoProvider::get_default().is_none());
}
