// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IReceipts} from "../interfaces/IReceipts.sol";
import {SeededSampling} from "./SeededSampling.sol";
import {Traces} from "./Traces.sol";

/// @title When a record and the seed contradict each other
/// @notice A record says how probable the chosen token and its closest rivals were; the seed fixes the noise of each. A token that
/// loses against a rival by more than rounding explains was not chosen by the rule, whatever the hardware.
library Contradictions {
    int256 private constant MILLION = 1_000_000;

    /// @notice Whether one record contradicts the sampling rule.
    /// @dev Judged only without penalties and biases, which need more than one record; see `isJudged`.
    /// @param tolerance in 1/1024 nat
    function contradicts(
        Traces.Record memory record,
        IReceipts.Sampling calldata sampling,
        bytes32 seed,
        uint32 step,
        uint16 tolerance
    ) internal pure returns (bool) {
        if (record.chosen.id == Traces.NO_TOKEN) return false;
        bytes32 key = SeededSampling.stepKey(seed, step);
        int256 chosenNoise = sampling.temperature == 0 ? int256(0) : _noise(key, record.chosen.id);
        for (uint256 i; i < Traces.ALTERNATIVES; ++i) {
            Traces.Token memory rival = record.alternatives[i];
            if (rival.id == Traces.NO_TOKEN || rival.logProbability == Traces.NO_LOG_PROBABILITY) break;
            int256 lead = int256(rival.logProbability) - record.chosen.logProbability - int256(uint256(tolerance));
            if (sampling.temperature == 0) {
                if (lead > 0) return true;
            } else if (_counts(record, i, sampling, tolerance)) {
                // Nats with 32 fractional bits.
                int256 scaled = lead * (1 << 22) * MILLION / int256(uint256(sampling.temperature));
                if (scaled + _noise(key, rival.id) - chosenNoise > 0) return true;
            }
        }
        return false;
    }

    /// @notice Whether the sampling is of the kind that one record decides.
    function isJudged(IReceipts.Sampling calldata sampling) internal pure returns (bool) {
        return sampling.presence == 0 && sampling.frequency == 0 && sampling.repeat == uint256(MILLION)
            && sampling.bias == bytes32(0);
    }

    /// @dev Whether no truncation can have removed the rival while it kept the chosen token.
    function _counts(Traces.Record memory record, uint256 index, IReceipts.Sampling calldata sampling, uint16 tolerance)
        private
        pure
        returns (bool)
    {
        Traces.Token memory rival = record.alternatives[index];
        int256 p = rival.logProbability;
        int256 chosen = record.chosen.logProbability;
        // Within the tolerance it is not known which of the two is more probable.
        if (p - chosen > int256(uint256(tolerance))) return true;
        if (sampling.topP < uint256(MILLION)) return false;
        // All alternatives before it are more probable, and the chosen token may be.
        if (sampling.topK != 0 && index + 2 > sampling.topK) return false;
        if (sampling.minP == 0) return true;
        int256 first = record.alternatives[0].logProbability;
        int256 behind = (first > chosen ? first : chosen) - p + int256(uint256(tolerance));
        return behind * MILLION / int256(uint256(sampling.temperature)) <= _minusLogOfMillionths(sampling.minP);
    }

    /// @dev -ln(millionths / 1,000,000) in 1/1024 nat, rounded down.
    function _minusLogOfMillionths(uint32 millionths) private pure returns (int256) {
        return (SeededSampling.ln(uint256(MILLION), 0) - SeededSampling.ln(millionths, 0)) >> 54;
    }

    function _noise(bytes32 key, uint32 token) private pure returns (int256) {
        return SeededSampling.gumbel(SeededSampling.bits(key, token));
    }
}
