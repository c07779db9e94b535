// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Names one model by the hash of its manifest. Zero stands for "any model" where a session allows it.
type ModelId is bytes32;

using {equalsModelId as ==, differsModelId as !=} for ModelId global;

ModelId constant ANY_MODEL = ModelId.wrap(bytes32(0));

function equalsModelId(ModelId a, ModelId b) pure returns (bool) {
    return ModelId.unwrap(a) == ModelId.unwrap(b);
}

function differsModelId(ModelId a, ModelId b) pure returns (bool) {
    return ModelId.unwrap(a) != ModelId.unwrap(b);
}
