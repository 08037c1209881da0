// Checks of an answer's text by itself, or beside the reference: regex, exact, length. Called by open_checks.
#pragma once
#include <memory>

#include "loraine/rollouts/checks/check.h"
#include "loraine/rollouts/checks/check_fields.h"

namespace loraine {

std::unique_ptr<RewardCheck> regex_check(CheckFields& fields);
std::unique_ptr<RewardCheck> exact_check(CheckFields& fields);
std::unique_ptr<RewardCheck> length_check(CheckFields& fields);

}  // namespace loraine
