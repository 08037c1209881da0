// Which adapters are on for a request, by its `model`, its `lora`, or what POST /lora-adapters set. Used by the handlers.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loraine/serve/protocol/fields.h"
#include "loraine/serve/service.h"

namespace loraine {

using AskedLora = std::vector<std::pair<std::string, double>>;  // names, or numbers of GET /lora-adapters, and scales

// llama-server's field: [{"id" or "name", "scale"}]. Throws ApiError.
std::optional<AskedLora> read_lora_field(Fields& fields);
// `lora` counts before `model`, that before what POST /lora-adapters set. nullptr: the base. Throws ApiError with the nearest name.
std::shared_ptr<const ServedAdapter> chosen_adapter(Service& service, const std::string& model, const std::optional<AskedLora>& lora);

}  // namespace loraine
