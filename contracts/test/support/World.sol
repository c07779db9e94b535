// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CortensorToken} from "../../src/CortensorToken.sol";
import {ModelRegistry} from "../../src/ModelRegistry.sol";
import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {Sessions} from "../../src/Sessions.sol";
import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {ISessions} from "../../src/interfaces/ISessions.sol";
import {ANY_MODEL, ModelId} from "../../src/types/ModelId.sol";
import {MINER, ROUTER, Roles} from "../../src/types/Roles.sol";
import {SessionId} from "../../src/types/SessionId.sol";
import {vm} from "./Vm.sol";

/// @dev The four contracts deployed and wired, with a router, two miners, a client and a model: what every suite starts from.
abstract contract World {
    uint256 internal constant ROUTER_KEY = 0xA001;
    uint256 internal constant MINER_KEY = 0xB001;
    uint256 internal constant OTHER_MINER_KEY = 0xB002;
    uint256 internal constant CLIENT_KEY = 0xC001;
    uint256 internal constant SESSION_KEY = 0xD001;

    address internal constant GOVERNANCE = address(0x60F);
    address internal constant TREASURY = address(0x7EA);
    address internal constant PUBLISHER = address(0x9B1);
    address internal constant NODE_OWNER = address(0x0113);
    address internal constant ROUTER_PAYOUT = address(0x0114);
    address internal constant MINER_PAYOUT = address(0x0115);

    uint128 internal constant ROUTER_STAKE = 10_000e18;
    uint128 internal constant MINER_STAKE = 1000e18;
    uint64 internal constant UNBONDING = 7 days;
    uint32 internal constant GRACE = 1 days;
    uint128 internal constant DEPOSIT = 1000e18;
    uint128 internal constant INPUT_PRICE = 2e18;
    uint128 internal constant OUTPUT_PRICE = 8e18;
    ModelId internal constant MODEL = ModelId.wrap(keccak256("model"));
    uint16 internal constant ROYALTY = 500;
    uint128 internal constant NO_BOUND = type(uint128).max;

    CortensorToken internal token;
    NodeRegistry internal registry;
    ModelRegistry internal models;
    Sessions internal sessions;

    address internal router = vm.addr(ROUTER_KEY);
    address internal miner = vm.addr(MINER_KEY);
    address internal otherMiner = vm.addr(OTHER_MINER_KEY);
    address internal client = vm.addr(CLIENT_KEY);

    function deployWorld() internal {
        vm.warp(1_800_000_000);
        token = new CortensorToken(GOVERNANCE, address(this), 500_000_000e18);
        registry = new NodeRegistry(token, GOVERNANCE, UNBONDING, [ROUTER_STAKE / 2, MINER_STAKE / 2, 0, 0, 0]);
        models = new ModelRegistry(GOVERNANCE);
        sessions = new Sessions(token, registry, models, GOVERNANCE, TREASURY, defaultParameters());
        vm.prank(GOVERNANCE);
        registry.setSlasher(address(sessions), true);

        registerNode(ROUTER_KEY, ROUTER, ROUTER_PAYOUT, ROUTER_STAKE);
        registerNode(MINER_KEY, MINER, MINER_PAYOUT, MINER_STAKE);
        vm.prank(PUBLISHER);
        models.register(
            MODEL, ROYALTY, IModelRegistry.PriceBounds(0, NO_BOUND, 0, NO_BOUND), "Apache-2.0", "ipfs://manifest"
        );
        fund(client, 1000 * uint256(DEPOSIT));
    }

    function defaultParameters() internal pure returns (ISessions.Parameters memory) {
        return ISessions.Parameters({
            routerBps: 1000,
            protocolBps: 200,
            equivocationSlashBps: 3000,
            reporterBps: 2000,
            overdraftPenaltyBps: 1000,
            grace: GRACE
        });
    }

    /// @dev Gives an account tokens and lets both custodians take them.
    function fund(address account, uint256 amount) internal {
        token.transfer(account, amount);
        vm.startPrank(account);
        token.approve(address(registry), type(uint256).max);
        token.approve(address(sessions), type(uint256).max);
        vm.stopPrank();
    }

    function registration(uint256 key, Roles roles, address payout, uint128 stake)
        internal
        pure
        returns (INodeRegistry.Registration memory)
    {
        return INodeRegistry.Registration({
            operator: vm.addr(key),
            payout: payout,
            roles: roles,
            stake: stake,
            transportKey: keccak256(abi.encode("transport", key)),
            transportSignature: new bytes(64),
            claims: "claims"
        });
    }

    function registerNode(uint256 key, Roles roles, address payout, uint128 stake) internal {
        fund(NODE_OWNER, stake);
        INodeRegistry.OperatorConsent memory consent = consentOf(key, NODE_OWNER, block.timestamp + 1 hours);
        vm.prank(NODE_OWNER);
        registry.register(registration(key, roles, payout, stake), consent);
    }

    function consentOf(uint256 key, address nodeOwner, uint256 deadline)
        internal
        view
        returns (INodeRegistry.OperatorConsent memory)
    {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Consent(address operator,address owner,uint256 nonce,uint256 deadline)"),
                vm.addr(key),
                nodeOwner,
                registry.nonces(vm.addr(key)),
                deadline
            )
        );
        bytes32 digest = typedDigest("Cortensor NodeRegistry", address(registry), block.chainid, structHash);
        return INodeRegistry.OperatorConsent({deadline: deadline, signature: signDigest(key, digest)});
    }

    function openParams() internal view returns (ISessions.OpenParams memory) {
        return ISessions.OpenParams({
            deposit: DEPOSIT,
            sessionKey: vm.addr(SESSION_KEY),
            keyLimit: DEPOSIT,
            router: router,
            model: MODEL,
            maxInputPrice: INPUT_PRICE,
            maxOutputPrice: OUTPUT_PRICE,
            minTier: 1,
            expiry: uint64(block.timestamp + 30 days)
        });
    }

    function openSession() internal returns (SessionId id) {
        ISessions.OpenParams memory params = openParams();
        vm.prank(client);
        return sessions.open(params);
    }

    /// @dev A voucher whose token counts just cover the amount at the session's output price.
    function voucherFor(SessionId id, address to, uint128 amount) internal pure returns (ISessions.Voucher memory) {
        return ISessions.Voucher({
            session: id,
            miner: to,
            cumulativeAmount: amount,
            cumulativeInputTokens: 7,
            cumulativeOutputTokens: uint64(uint256(amount) * 1e6 / OUTPUT_PRICE + 1),
            receiptsRoot: keccak256(abi.encode("receipts", amount))
        });
    }

    function signVoucher(ISessions.Voucher memory voucher, uint64 sequence, uint128 total)
        internal
        view
        returns (ISessions.SignedVoucher memory)
    {
        return signVoucherWith(voucher, sequence, total, SESSION_KEY, ROUTER_KEY);
    }

    function signVoucherWith(
        ISessions.Voucher memory voucher,
        uint64 sequence,
        uint128 total,
        uint256 sessionKey,
        uint256 routerKey
    ) internal view returns (ISessions.SignedVoucher memory) {
        bytes32 hash = voucherStructHash(voucher);
        return ISessions.SignedVoucher({
            voucher: voucher,
            signature: signDigest(sessionKey, sessionsDigest(hash)),
            sequence: sequence,
            sessionTotal: total,
            routerSignature: signDigest(
                routerKey, sessionsDigest(countersignatureStructHash(hash, voucher.session, sequence, total))
            )
        });
    }

    function signCountersignature(ISessions.Countersignature memory c, uint256 key)
        internal
        view
        returns (ISessions.SignedCountersignature memory)
    {
        bytes32 hash = countersignatureStructHash(c.voucherHash, c.session, c.sequence, c.sessionTotal);
        return ISessions.SignedCountersignature(c, signDigest(key, sessionsDigest(hash)));
    }

    function signClose(SessionId id, uint64 sequence, uint128 total, uint256 key) internal view returns (bytes memory) {
        bytes32 hash = keccak256(
            abi.encode(keccak256("Close(bytes32 session,uint64 finalSequence,uint128 finalTotal)"), id, sequence, total)
        );
        return signDigest(key, sessionsDigest(hash));
    }

    // The type strings below are written out again, so that a slip in the contract's constants shows.

    function voucherStructHash(ISessions.Voucher memory v) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256(
            "Voucher(bytes32 session,address miner,uint128 cumulativeAmount,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,bytes32 receiptsRoot)"
        );
        return keccak256(abi.encode(typeHash, v));
    }

    function countersignatureStructHash(bytes32 voucherHash, SessionId id, uint64 sequence, uint128 total)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typeHash =
            keccak256("Countersignature(bytes32 voucherHash,bytes32 session,uint64 sequence,uint128 sessionTotal)");
        return keccak256(abi.encode(typeHash, voucherHash, id, sequence, total));
    }

    function sessionsDigest(bytes32 structHash) internal view returns (bytes32) {
        return typedDigest("Cortensor Sessions", address(sessions), block.chainid, structHash);
    }

    function typedDigest(string memory name, address verifier, uint256 chain, bytes32 structHash)
        internal
        pure
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                chain,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function signDigest(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev What the contract should be holding for the given sessions, less all balances.
    function unspent(SessionId id) internal view returns (uint256) {
        ISessions.Session memory s = sessions.session(id);
        return s.status == ISessions.Status.Closed ? 0 : s.deposit - s.spent;
    }
}
