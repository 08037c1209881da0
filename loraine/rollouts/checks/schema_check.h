// The check json_schema: an answer, or a part of it, that is JSON and fits a schema. Called by open_checks.
#pragma once
#include <memory>

#include "loraine/rollouts/checks/check.h"
#include "loraine/rollouts/checks/check_fields.h"

namespace loraine {

// folder: that schema_file is named from.
std::unique_ptr<RewardCheck> schema_check(CheckFields& fields, const std::string& folder);

}  // namespace loraine
