// The check command: a program that reads answers as JSON lines and writes a number for each. Called by open_checks.
#pragma once
#include <memory>

#include "loraine/rollouts/checks/check.h"
#include "loraine/rollouts/checks/check_fields.h"

namespace loraine {

// Started once for the answers of a generation. In: {"prompt", "messages", "completion", "reference"} a line. Out, for each in turn: a
// number, {"reward": a number}, or null where there is nothing to say.
std::unique_ptr<RewardCheck> command_check(CheckFields& fields);

}  // namespace loraine
