// See chosen_adapter.h.
#include "loraine/serve/chosen_adapter.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

// By its name, else by its number in the list.
std::shared_ptr<const ServedAdapter> find_given(Service& service, const std::string& given) {
  std::string name = given;
  const bool is_number = given.size() < 6 && given.find_first_not_of("0123456789") == given.npos;
  if (is_number && !service.adapters->has(given)) {
    const std::vector<AdapterListing> all = service.adapters->list();
    if (std::stoul(given) < all.size()) name = all[std::stoul(given)].name;
  }
  auto adapter = service.adapters->find(name);
  if (!adapter) throw ApiError{404, fmt::format("lora: no adapter is called '{}'", name), "lora", "model_not_found"};
  return adapter;
}

std::shared_ptr<const ServedAdapter> mixed(Service& service, const std::vector<ScaledAdapter>& parts) {
  try {
    return service.mixtures->find(parts);
  } catch (const Error& error) {
    if (error.kind != ErrorKind::unsupported) throw;
    throw ApiError{400, fmt::format("lora: {}", error.what()), "lora", "unsupported_parameter"};
  }
}

}  // namespace

std::optional<AskedLora> read_lora_field(Fields& fields) {
  constexpr const char* kExpected = "a list of objects with id or name, and scale";
  const WireJson* list = fields.array("lora", 64);
  if (!list) return {};
  AskedLora asked;
  for (const WireJson& one : *list) {
    if (!one.is_object()) fields.fail("lora", kExpected);
    Fields inner(one, "lora.");
    std::string name = inner.any("id") && one["id"].is_number_integer() ? one["id"].dump() : inner.text("id", 128).value_or("");
    if (const auto given = inner.text("name", 128)) name = *given;
    if (name.empty()) fields.fail("lora", kExpected);
    asked.emplace_back(name, inner.number("scale", -100, 100).value_or(1));
  }
  return asked;
}

std::shared_ptr<const ServedAdapter> chosen_adapter(Service& service, const std::string& model, const std::optional<AskedLora>& lora) {
  std::shared_ptr<const ServedAdapter> adapter = find_adapter(service, model);
  std::vector<ScaledAdapter> parts;
  if (lora) {
    for (const auto& [given, scale] : *lora) {
      std::shared_ptr<const ServedAdapter> one = find_given(service, given);
      const auto same = std::ranges::find_if(parts, [&](const ScaledAdapter& part) { return part.first->name == one->name; });
      if (same != parts.end()) same->second += scale;
      else parts.emplace_back(std::move(one), scale);
    }
    std::erase_if(parts, [](const ScaledAdapter& part) { return part.second == 0; });
    return mixed(service, parts);
  }
  if (adapter) return adapter;
  std::map<std::string, double> set;
  {
    const std::lock_guard lock(service.scales_mutex);
    set = service.default_lora;
  }
  for (const auto& [name, scale] : set)
    if (auto one = service.adapters->find(name)) parts.emplace_back(std::move(one), scale);  // else it was unloaded meanwhile
  return mixed(service, parts);
}

}  // namespace loraine
