//! A permissioned network: invited, joined, removed, and a log that can be checked.

use crate::{anvil::Anvil, world::signer};
use alloy::{primitives::B256, providers::Provider as _, signers::local::PrivateKeySigner};
use cortensor_contracts::{BlockRange, MemberChange, Members, Newcomer, Wallet, connect};
use cortensor_protocol::TransportKey;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_invited_join_and_go() {
    let anvil = Anvil::start().await;
    let provider = connect(anvil.url()).await.unwrap();
    let owner = Wallet::new(provider.clone(), signer(0)).await.unwrap();
    let guest = Wallet::new(provider.clone(), signer(1)).await.unwrap();
    let [invited, stranger] = [2, 3].map(|index| Wallet::new(provider.clone(), signer(index)));
    let (invited, stranger) = (invited.await.unwrap(), stranger.await.unwrap());
    let transport = TransportKey(B256::repeat_byte(7));
    let first = [Newcomer { account: owner.address(), rights: u32::MAX, transport_key: transport }];
    let members = Members::deploy(&owner, &first).await.unwrap();

    members.invite(&owner, invited.address(), 2, 3_600).await.unwrap();
    let refused = members.join(&stranger, &signer(1), transport).await.unwrap_err();
    assert!(refused.revert().unwrap().is("InvitationUnknown"));
    members.join(&invited, &signer(1), transport).await.unwrap();
    assert!(members.is_member(guest.address(), 2).await.unwrap());
    assert_eq!(members.members(10).await.unwrap().len(), 2);
    members.set_rights(&owner, guest.address(), 0).await.unwrap();
    assert!(!members.is_member(guest.address(), 2).await.unwrap());
    let refused = members.remove(&guest, owner.address()).await.unwrap_err();
    assert!(refused.revert().unwrap().is("OwnableUnauthorizedAccount"));
    let removed = members.remove(&owner, guest.address()).await.unwrap().block;
    assert!(members.is_member_at(guest.address(), removed).await.unwrap());
    assert!(!members.is_member_at(guest.address(), removed + 1).await.unwrap());
    let second = PrivateKeySigner::random();
    members.invite(&owner, second.address(), 0, 60).await.unwrap();
    members.revoke(&owner, second.address()).await.unwrap();

    let to = provider.get_block_number().await.unwrap();
    let log = members.log(BlockRange { from: 0, to }).await.unwrap();
    let changes: Vec<_> = log.iter().map(|entry| entry.change).collect();
    use MemberChange::{Invited, Joined, Removed, Revoked, RightsChanged};
    assert_eq!(changes, [Joined, Invited, Joined, RightsChanged, Removed, Invited, Revoked]);
    let head = log.iter().fold(B256::ZERO, |head, entry| entry.head_after(head));
    assert_eq!(members.log_head().await.unwrap(), (head, 7), "the export is whole");
}
