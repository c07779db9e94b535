// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ModelId} from "../types/ModelId.sol";

/// @title Which models exist, who published them and on what terms
/// @notice A model is named by the hash of its manifest, so its content can never change; its terms can, by its publisher.
/// Terms count for sessions opened later: an open session keeps the terms it was opened with.
interface IModelRegistry {
    /// @notice Bounds on the prices of a model, in wei of COR per 1,000,000 LLM tokens.
    /// @dev A session must allow at least the minimum, and is never charged above the maximum.
    /// `type(uint128).max` says that there is no maximum.
    struct PriceBounds {
        uint128 minInput;
        uint128 maxInput;
        uint128 minOutput;
        uint128 maxOutput;
    }

    /// @notice Everything that is known of a model.
    /// @param publisher account that governs the entry and earns the royalty
    /// @param royaltyBps share of every payment, in basis points
    /// @param retired whether new sessions for it are refused
    /// @param registeredAt seconds since 1970
    /// @param licence SPDX expression or a short name
    /// @param manifestURI where the manifest with this hash may be found
    struct Model {
        ModelId id;
        address publisher;
        uint16 royaltyBps;
        bool retired;
        uint64 registeredAt;
        PriceBounds prices;
        string licence;
        string manifestURI;
    }

    event ModelRegistered(
        ModelId indexed id,
        address indexed publisher,
        uint16 royaltyBps,
        PriceBounds prices,
        string licence,
        string manifestURI
    );
    event TermsChanged(ModelId indexed id, uint16 royaltyBps, PriceBounds prices);
    event LicenceChanged(ModelId indexed id, string licence);
    event ManifestURIChanged(ModelId indexed id, string manifestURI);
    event RetirementChanged(ModelId indexed id, bool retired);
    event PublisherChanged(ModelId indexed id, address indexed previousPublisher, address indexed publisher);

    error ModelAlreadyRegistered(ModelId id);
    error ModelUnknown(ModelId id);
    error NotPublisher(ModelId id, address caller);
    error RoyaltyAboveCap(uint16 royaltyBps);
    error PriceBoundsInverted();
    error TextTooLong(uint256 length);
    error ZeroAddress();
    error ZeroModelId();
    error PageTooLong(uint256 limit);

    /// @notice Publishes a model; the caller becomes its publisher. First come, first served.
    /// @param id hash of the manifest
    function register(
        ModelId id,
        uint16 royaltyBps,
        PriceBounds calldata prices,
        string calldata licence,
        string calldata manifestURI
    ) external;

    /// @notice Changes royalty and prices for sessions opened from now on. Only the publisher.
    function setTerms(ModelId id, uint16 royaltyBps, PriceBounds calldata prices) external;

    /// @notice Changes the licence text. Only the publisher.
    function setLicence(ModelId id, string calldata licence) external;

    /// @notice Changes where the manifest is found. Only the publisher.
    function setManifestURI(ModelId id, string calldata manifestURI) external;

    /// @notice Stops new sessions for a model, or allows them again. Only the publisher.
    function setRetired(ModelId id, bool retired) external;

    /// @notice Hands a model to another publisher, who earns all later royalties. Only the publisher.
    function transferPublisher(ModelId id, address publisher) external;

    /// @notice Corrects the publisher after a dispute, for instance when a registration was front-run. Only governance.
    function reassignPublisher(ModelId id, address publisher) external;

    /// @notice The whole entry. Reverts with `ModelUnknown` where there is none.
    function model(ModelId id) external view returns (Model memory);

    /// @notice What opening a session needs. Reverts with `ModelUnknown` where there is none.
    function terms(ModelId id) external view returns (uint16 royaltyBps, bool retired, PriceBounds memory prices);

    /// @notice Who earns the royalty; zero for an unknown model.
    function publisherOf(ModelId id) external view returns (address);

    /// @notice How many models are registered.
    function modelCount() external view returns (uint256);

    /// @notice The model at a position below `modelCount()`, in the order of registration.
    function modelAt(uint256 index) external view returns (ModelId);

    /// @notice Up to `limit` entries from position `offset`; fewer at the end. `limit` is at most `MAX_PAGE`.
    function models(uint256 offset, uint256 limit) external view returns (Model[] memory page);
}
