// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// A token with the storage layout and costs of a usual ERC-20: what the benchmark transfers and the tests trace.
contract Token {
    mapping(address account => uint256) public balanceOf;
    uint256 public totalSupply;

    event Transfer(address indexed from, address indexed to, uint256 value);

    error InsufficientBalance(address from, uint256 balance, uint256 needed);

    constructor(uint256 supply) {
        totalSupply = supply;
        balanceOf[msg.sender] = supply;
        emit Transfer(address(0), msg.sender, supply);
    }

    function transfer(address to, uint256 value) external returns (bool) {
        uint256 balance = balanceOf[msg.sender];
        if (balance < value) revert InsufficientBalance(msg.sender, balance, value);
        unchecked {
            balanceOf[msg.sender] = balance - value;
            balanceOf[to] += value;
        }
        emit Transfer(msg.sender, to, value);
        return true;
    }
}

/// Behaviour that is hard to get right in a node: failures of every kind, tolerated failures, time and block hashes.
contract Probe {
    uint256 public work;
    bool public inner;

    error Custom(uint256 code, string text);

    function failReason() external pure {
        revert("no reason at all");
    }

    function failCustom() external pure {
        revert Custom(7, "seven");
    }

    function failPanic(uint256 divisor) external pure returns (uint256) {
        return 1 / divisor;
    }

    function failEmpty() external pure {
        assembly {
            revert(0, 0)
        }
    }

    function failInvalid() external pure {
        assembly {
            invalid()
        }
    }

    /// Writes slots, which costs at least 22,100 gas for each.
    function burn(uint256 slots) public {
        for (uint256 i = 0; i < slots; i++) {
            uint256 slot = uint256(keccak256(abi.encode(work, i)));
            assembly {
                sstore(slot, 1)
            }
        }
        work += 1;
    }

    /// Succeeds whether or not the inner call had enough gas, and remembers which.
    function tolerate(uint256 slots) external returns (bool success) {
        (success,) = address(this).call(abi.encodeCall(this.burn, (slots)));
        inner = success;
    }

    /// Fails when the inner call fails.
    function insist(uint256 slots) external {
        this.burn(slots);
    }

    /// Sets and clears slots, so that much of the gas is refunded at the end.
    function refund(uint256 slots) external {
        burn(slots);
        for (uint256 i = 0; i < slots; i++) {
            uint256 slot = uint256(keccak256(abi.encode(work - 1, i)));
            assembly {
                sstore(slot, 0)
            }
        }
    }

    function environment()
        external
        view
        returns (uint256 number, uint256 time, uint256 chain, uint256 baseFee, bytes32 parent, uint256 random)
    {
        return (block.number, block.timestamp, block.chainid, block.basefee, blockhash(block.number - 1), block.prevrandao);
    }

    function sender() external view returns (address, uint256) {
        return (msg.sender, msg.sender.balance);
    }

    receive() external payable {}
}
