//! Stopping and starting again: keys, sessions, books and receipts are still there.

use crate::world::{World, question};
use cortensor_engine::mock::MockConfig;
use cortensor_protocol::Wei;

#[tokio::test(flavor = "multi_thread")]
async fn a_network_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(folder.path(), vec![MockConfig::default()]).await;
    let (key, session) = (world.net.api_key.clone(), world.net.session);
    let streamed = world.stream(question("remember me", 40), async |_| ()).await;
    let owed = world.vouchers_arrive().await;
    let book = world.net.router.settlement().book(session).unwrap();
    world.net.shutdown().await.unwrap();

    let world = World::at(folder.path(), vec![MockConfig::default()]).await;
    assert_eq!((&world.net.api_key, world.net.session), (&key, session));
    let again = world.net.router.settlement().book(session).unwrap();
    assert_eq!((again.total, again.sequence), (owed, book.sequence));
    assert!(again.next_nonce > book.next_nonce, "a nonce must never be used twice");
    let receipts = world.receipts(&streamed.task).await;
    receipts[0].verify().unwrap();
    assert_eq!(world.get(&format!("/v1/tasks/{}", streamed.task)).await["state"], "finished");
    let held: Wei = world.net.miners[0].miner.earnings().accounts().iter().map(|(_, account)| account.promised()).sum();
    assert_eq!(held, owed);
    let next = world.stream(question("and go on", 10), async |_| ()).await;
    assert_eq!(next.error, None);
    assert!(world.vouchers_arrive().await > owed);
    world.net.shutdown().await.unwrap();
}
