// Adapters that were trained over transformers 4, where experts are layers of their own and some modules have the names of the files, shown
// as PEFT has them over transformers 5. Called by attach.
#pragma once
#include "loraine/adapters/peft_files.h"
#include "loraine/model/model.h"

namespace loraine {

// The tensors of an adapter's folder by the names that its modules have in `model`. LoRA on experts that were layers becomes LoRA on their
// parameters: gate and up, one below the other in one parameter, take the rank of both. The config, of that folder, becomes the one that
// PEFT 0.19 would have for it. A file that is up to date comes as it is. Throws bad_data for a file that does not fit, unsupported for DoRA
// on experts.
AdapterFile adapter_as_named_today(const Model& model, LoraConfig& config, const std::string& folder);

}  // namespace loraine
