// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Sessions} from "../src/Sessions.sol";
import {NodeRegistry} from "../src/NodeRegistry.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {MINER} from "../src/types/Roles.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

/// @dev The golden messages in `artifacts/vectors.json`, which implementations in other languages read too. Their digests and
/// signatures were made with cast's own typed-data signing, from the type strings in the file.
contract VectorsTest is World {
    string private json;
    Sessions private fixedSessions;
    NodeRegistry private fixedRegistry;

    function setUp() public {
        deployWorld();
        vm.warp(1_700_000_000);
        json = vm.readFile("artifacts/vectors.json");
        vm.chainId(number(".chainId"));
        fixedSessions = Sessions(account(".sessions"));
        fixedRegistry = NodeRegistry(account(".nodeRegistry"));
        vm.etch(address(fixedSessions), address(sessions).code);
        vm.etch(address(fixedRegistry), address(registry).code);
    }

    function test_sessionId() public view {
        bytes32 expected =
            keccak256(abi.encode(block.chainid, address(fixedSessions), account(".owner"), number(".ownerNonce")));
        vm.assertEq(word(".sessionId"), expected, "formula");
    }

    function test_voucher() public view {
        ISessions.Voucher memory v = ISessions.Voucher({
            session: SessionId.wrap(word(".voucher.message.session")),
            miner: account(".voucher.message.miner"),
            cumulativeAmount: uint128(number(".voucher.message.cumulativeAmount")),
            cumulativeInputTokens: uint64(number(".voucher.message.cumulativeInputTokens")),
            cumulativeOutputTokens: uint64(number(".voucher.message.cumulativeOutputTokens")),
            receiptsRoot: word(".voucher.message.receiptsRoot")
        });
        vm.assertEq(fixedSessions.voucherHash(v), word(".voucher.structHash"), "struct hash");
        check(".voucher", fixedSessions.voucherDigest(v), number(".sessionKey"), account(".sessionSigner"));
    }

    function test_countersignature() public view {
        ISessions.Countersignature memory c = ISessions.Countersignature({
            voucherHash: word(".countersignature.message.voucherHash"),
            session: SessionId.wrap(word(".countersignature.message.session")),
            sequence: uint64(number(".countersignature.message.sequence")),
            sessionTotal: uint128(number(".countersignature.message.sessionTotal"))
        });
        vm.assertEq(c.voucherHash, word(".voucher.structHash"), "of the voucher");
        check(".countersignature", fixedSessions.countersignatureDigest(c), number(".routerKey"), account(".router"));
    }

    function test_close() public view {
        bytes32 digest = fixedSessions.closeDigest(
            SessionId.wrap(word(".close.message.session")),
            uint64(number(".close.message.finalSequence")),
            uint128(number(".close.message.finalTotal"))
        );
        check(".close", digest, number(".routerKey"), account(".router"));
    }

    function test_consent() public {
        check(".consent", word(".consent.digest"), number(".operatorKey"), account(".operator"));
        INodeRegistry.Registration memory entry = registration(number(".operatorKey"), MINER, client, 0);
        INodeRegistry.OperatorConsent memory consent =
            INodeRegistry.OperatorConsent(number(".consent.message.deadline"), text(".consent.signature"));
        vm.prank(account(".owner"));
        fixedRegistry.register(entry, consent);
        vm.assertTrue(fixedRegistry.isRegistered(account(".operator")), "the registry takes it");
    }

    function test_transportBinding() public view {
        vm.assertEq(fixedRegistry.transportBinding(account(".operator")), text(".transportBinding"), "bytes");
    }

    function check(string memory path, bytes32 digest, uint256 key, address signer) private view {
        vm.assertEq(digest, word(string.concat(path, ".digest")), "digest");
        vm.assertEq(signDigest(key, digest), text(string.concat(path, ".signature")), "signature");
        vm.assertEq(vm.addr(key), signer, "signer");
    }

    function number(string memory path) private view returns (uint256) {
        return vm.parseJsonUint(json, path);
    }

    function account(string memory path) private view returns (address) {
        return vm.parseJsonAddress(json, path);
    }

    function word(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, path);
    }

    function text(string memory path) private view returns (bytes memory) {
        return vm.parseJsonBytes(json, path);
    }
}
