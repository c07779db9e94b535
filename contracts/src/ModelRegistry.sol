// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {ANY_MODEL, ModelId} from "./types/ModelId.sol";

/// @title ModelRegistry
contract ModelRegistry is IModelRegistry, Ownable2Step {
    uint16 public constant MAX_ROYALTY_BPS = 2000;
    uint256 public constant MAX_LICENCE_BYTES = 128;
    uint256 public constant MAX_URI_BYTES = 512;
    uint256 public constant MAX_PAGE = 100;

    mapping(ModelId id => Model) private _models;
    ModelId[] private _ids;

    constructor(address initialOwner) Ownable(initialOwner) {}

    modifier onlyPublisher(ModelId id) {
        _requirePublisher(id);
        _;
    }

    /// @inheritdoc IModelRegistry
    function register(
        ModelId id,
        uint16 royaltyBps,
        PriceBounds calldata prices,
        string calldata licence,
        string calldata manifestURI
    ) external {
        if (id == ANY_MODEL) revert ZeroModelId();
        if (_models[id].publisher != address(0)) revert ModelAlreadyRegistered(id);
        _requireTerms(royaltyBps, prices);
        _requireLength(licence, MAX_LICENCE_BYTES);
        _requireLength(manifestURI, MAX_URI_BYTES);
        _models[id] = Model({
            id: id,
            publisher: msg.sender,
            royaltyBps: royaltyBps,
            retired: false,
            registeredAt: uint64(block.timestamp),
            prices: prices,
            licence: licence,
            manifestURI: manifestURI
        });
        _ids.push(id);
        emit ModelRegistered(id, msg.sender, royaltyBps, prices, licence, manifestURI);
    }

    /// @inheritdoc IModelRegistry
    function setTerms(ModelId id, uint16 royaltyBps, PriceBounds calldata prices) external onlyPublisher(id) {
        _requireTerms(royaltyBps, prices);
        _models[id].royaltyBps = royaltyBps;
        _models[id].prices = prices;
        emit TermsChanged(id, royaltyBps, prices);
    }

    /// @inheritdoc IModelRegistry
    function setLicence(ModelId id, string calldata licence) external onlyPublisher(id) {
        _requireLength(licence, MAX_LICENCE_BYTES);
        _models[id].licence = licence;
        emit LicenceChanged(id, licence);
    }

    /// @inheritdoc IModelRegistry
    function setManifestURI(ModelId id, string calldata manifestURI) external onlyPublisher(id) {
        _requireLength(manifestURI, MAX_URI_BYTES);
        _models[id].manifestURI = manifestURI;
        emit ManifestURIChanged(id, manifestURI);
    }

    /// @inheritdoc IModelRegistry
    function setRetired(ModelId id, bool retired) external onlyPublisher(id) {
        _models[id].retired = retired;
        emit RetirementChanged(id, retired);
    }

    /// @inheritdoc IModelRegistry
    function transferPublisher(ModelId id, address publisher) external onlyPublisher(id) {
        _setPublisher(id, publisher);
    }

    /// @inheritdoc IModelRegistry
    function reassignPublisher(ModelId id, address publisher) external onlyOwner {
        _known(id);
        _setPublisher(id, publisher);
    }

    /// @inheritdoc IModelRegistry
    function model(ModelId id) external view returns (Model memory) {
        return _known(id);
    }

    /// @inheritdoc IModelRegistry
    function terms(ModelId id) external view returns (uint16 royaltyBps, bool retired, PriceBounds memory prices) {
        Model storage entry = _known(id);
        return (entry.royaltyBps, entry.retired, entry.prices);
    }

    /// @inheritdoc IModelRegistry
    function publisherOf(ModelId id) external view returns (address) {
        return _models[id].publisher;
    }

    /// @inheritdoc IModelRegistry
    function modelCount() external view returns (uint256) {
        return _ids.length;
    }

    /// @inheritdoc IModelRegistry
    function modelAt(uint256 index) external view returns (ModelId) {
        return _ids[index];
    }

    /// @inheritdoc IModelRegistry
    function models(uint256 offset, uint256 limit) external view returns (Model[] memory page) {
        if (limit > MAX_PAGE) revert PageTooLong(limit);
        uint256 count = _ids.length;
        if (offset >= count) return page;
        page = new Model[](Math.min(limit, count - offset));
        for (uint256 i; i < page.length; ++i) {
            page[i] = _models[_ids[offset + i]];
        }
    }

    function _setPublisher(ModelId id, address publisher) private {
        if (publisher == address(0)) revert ZeroAddress();
        address previous = _models[id].publisher;
        _models[id].publisher = publisher;
        emit PublisherChanged(id, previous, publisher);
    }

    function _requirePublisher(ModelId id) private view {
        if (_known(id).publisher != msg.sender) revert NotPublisher(id, msg.sender);
    }

    function _known(ModelId id) private view returns (Model storage entry) {
        entry = _models[id];
        if (entry.publisher == address(0)) revert ModelUnknown(id);
    }

    function _requireTerms(uint16 royaltyBps, PriceBounds calldata prices) private pure {
        if (royaltyBps > MAX_ROYALTY_BPS) revert RoyaltyAboveCap(royaltyBps);
        if (prices.minInput > prices.maxInput || prices.minOutput > prices.maxOutput) revert PriceBoundsInverted();
    }

    function _requireLength(string calldata text, uint256 limit) private pure {
        if (bytes(text).length > limit) revert TextTooLong(bytes(text).length);
    }
}
