// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IModelRegistry} from "../src/interfaces/IModelRegistry.sol";
import {ANY_MODEL, ModelId} from "../src/types/ModelId.sol";
import {bound, vm} from "./support/Vm.sol";
import {World} from "./support/World.sol";

contract ModelRegistryTest is World {
    ModelId private constant OTHER = ModelId.wrap(keccak256("other"));
    IModelRegistry.PriceBounds private FREE = IModelRegistry.PriceBounds(0, NO_BOUND, 0, NO_BOUND);

    function setUp() public {
        deployWorld();
    }

    function test_registerKeepsEverything() public view {
        IModelRegistry.Model memory m = models.model(MODEL);
        vm.assertEq(ModelId.unwrap(m.id), ModelId.unwrap(MODEL), "id");
        vm.assertEq(m.publisher, PUBLISHER, "publisher");
        vm.assertEq(m.royaltyBps, ROYALTY, "royalty");
        vm.assertFalse(m.retired, "not retired");
        vm.assertEq(m.registeredAt, block.timestamp, "time");
        vm.assertEq(m.licence, "Apache-2.0", "licence");
        vm.assertEq(m.manifestURI, "ipfs://manifest", "uri");
        vm.assertEq(m.prices.maxOutput, NO_BOUND, "price");
        vm.assertEq(models.publisherOf(MODEL), PUBLISHER, "publisherOf");
    }

    function test_registerRefusesWhatIsMalformed() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ZeroModelId.selector));
        models.register(ANY_MODEL, 0, FREE, "", "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelAlreadyRegistered.selector, MODEL));
        models.register(MODEL, 0, FREE, "", "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.RoyaltyAboveCap.selector, 2001));
        models.register(OTHER, 2001, FREE, "", "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.PriceBoundsInverted.selector));
        models.register(OTHER, 0, IModelRegistry.PriceBounds(2, 1, 0, 0), "", "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.PriceBoundsInverted.selector));
        models.register(OTHER, 0, IModelRegistry.PriceBounds(0, 0, 2, 1), "", "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TextTooLong.selector, 129));
        models.register(OTHER, 0, FREE, string(new bytes(129)), "");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TextTooLong.selector, 513));
        models.register(OTHER, 0, FREE, "", string(new bytes(513)));
    }

    function test_publisherChangesTerms() public {
        vm.startPrank(PUBLISHER);
        models.setTerms(MODEL, 2000, IModelRegistry.PriceBounds(1, 2, 3, 4));
        models.setLicence(MODEL, "MIT");
        models.setManifestURI(MODEL, "https://example.org/m");
        models.setRetired(MODEL, true);
        vm.stopPrank();
        (uint16 royaltyBps, bool retired, IModelRegistry.PriceBounds memory prices) = models.terms(MODEL);
        vm.assertEq(royaltyBps, 2000, "royalty");
        vm.assertTrue(retired, "retired");
        vm.assertEq(prices.minInput, 1, "min in");
        vm.assertEq(prices.maxInput, 2, "max in");
        vm.assertEq(prices.minOutput, 3, "min out");
        vm.assertEq(prices.maxOutput, 4, "max out");
        vm.assertEq(models.model(MODEL).licence, "MIT", "licence");
        vm.assertEq(models.model(MODEL).manifestURI, "https://example.org/m", "uri");
    }

    function test_onlyThePublisherChanges() public {
        bytes memory refused = abi.encodeWithSelector(IModelRegistry.NotPublisher.selector, MODEL, client);
        vm.startPrank(client);
        vm.expectRevert(refused);
        models.setTerms(MODEL, 0, FREE);
        vm.expectRevert(refused);
        models.setLicence(MODEL, "");
        vm.expectRevert(refused);
        models.setManifestURI(MODEL, "");
        vm.expectRevert(refused);
        models.setRetired(MODEL, true);
        vm.expectRevert(refused);
        models.transferPublisher(MODEL, client);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelUnknown.selector, OTHER));
        models.setRetired(OTHER, true);
        vm.stopPrank();
    }

    function test_changesAreValidatedLikeRegistration() public {
        vm.startPrank(PUBLISHER);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.RoyaltyAboveCap.selector, 2001));
        models.setTerms(MODEL, 2001, FREE);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.PriceBoundsInverted.selector));
        models.setTerms(MODEL, 0, IModelRegistry.PriceBounds(0, 0, 1, 0));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TextTooLong.selector, 129));
        models.setLicence(MODEL, string(new bytes(129)));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.TextTooLong.selector, 513));
        models.setManifestURI(MODEL, string(new bytes(513)));
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ZeroAddress.selector));
        models.transferPublisher(MODEL, address(0));
        vm.stopPrank();
    }

    function test_publisherHandsOver() public {
        vm.prank(PUBLISHER);
        models.transferPublisher(MODEL, client);
        vm.assertEq(models.publisherOf(MODEL), client, "handed over");
        vm.prank(client);
        models.setRetired(MODEL, true);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotPublisher.selector, MODEL, PUBLISHER));
        vm.prank(PUBLISHER);
        models.setRetired(MODEL, false);
    }

    function test_governanceSettlesDisputes() public {
        vm.prank(GOVERNANCE);
        models.reassignPublisher(MODEL, client);
        vm.assertEq(models.publisherOf(MODEL), client, "reassigned");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelUnknown.selector, OTHER));
        vm.prank(GOVERNANCE);
        models.reassignPublisher(OTHER, client);
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, client));
        vm.prank(client);
        models.reassignPublisher(MODEL, client);
    }

    function testFuzz_pagesCoverEveryModelOnce(uint256 extra, uint256 size) public {
        extra = bound(extra, 0, 20);
        size = bound(size, 1, 10);
        for (uint256 i; i < extra; ++i) {
            models.register(ModelId.wrap(bytes32(i + 1)), 0, FREE, "MIT", "");
        }
        uint256 count = models.modelCount();
        vm.assertEq(count, 1 + extra, "count");
        uint256 seen;
        for (uint256 offset; offset < count; offset += size) {
            IModelRegistry.Model[] memory page = models.models(offset, size);
            for (uint256 i; i < page.length; ++i) {
                vm.assertEq(ModelId.unwrap(page[i].id), ModelId.unwrap(models.modelAt(seen++)), "order");
            }
        }
        vm.assertEq(seen, count, "all");
        vm.assertEq(models.models(count, size).length, 0, "past the end");
    }

    function test_pagesAreBounded() public {
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.PageTooLong.selector, 101));
        models.models(0, 101);
    }

    function test_unknownModels() public {
        vm.assertEq(models.publisherOf(OTHER), address(0), "no publisher");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelUnknown.selector, OTHER));
        models.model(OTHER);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelUnknown.selector, OTHER));
        models.terms(OTHER);
    }
}
