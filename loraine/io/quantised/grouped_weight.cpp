// Checks that the readers of all formats share.
#include "loraine/io/quantised/grouped_weight.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"
#include "loraine/io/files/json_text.h"

namespace loraine {

std::string sizes_text(const std::vector<int64_t>& shape) { return Tensor(nullptr, Dtype::F32, shape).shape_text(); }

int64_t QuantisedFolder::number(std::initializer_list<const char*> names, std::optional<int64_t> otherwise) const {
  for (const char* name : names) {
    const auto found = config.find(name);
    if (found == config.end() || found->is_null()) continue;
    if (found->is_number_integer() && *found >= -1 && *found <= kLargestSize) return found->get<int64_t>();
    refuse(fmt::format("{} is {}, expected a whole number", name, in_quotes(found->dump())), "is the file complete?");
  }
  if (!otherwise) refuse(fmt::format("has no {}", *names.begin()), "is the file complete?");
  return *otherwise;
}

std::string QuantisedFolder::text(std::initializer_list<const char*> names, const std::string& otherwise) const {
  for (const char* name : names)
    if (const auto found = config.find(name); found != config.end() && found->is_string()) return lower_case(found->get<std::string>());
  return otherwise;
}

void QuantisedFolder::refuse(const std::string& what, const std::string& hint) const {
  throw Error(ErrorKind::bad_data, fmt::format("{}: quantization_config {}", file, what), hint);
}

void QuantisedFolder::bad(const TensorInfo& info, const std::string& what) const {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {}: {}", info.file, info.name, what),
              "is the download complete, and config.json of this model?");
}

const TensorInfo* QuantisedFolder::beside(const TensorInfo& owner, const std::string& name, std::initializer_list<const char*> types,
                                          bool may_be_missing) const {
  const TensorInfo* info = source->find(name);
  if (!info && may_be_missing) return nullptr;
  if (!info) bad(owner, fmt::format("{} is missing, which it is quantised with", name));
  if (std::ranges::none_of(types, [&](const char* type) { return info->stored_as == type; }))
    bad(*info, fmt::format("is stored as {}, expected {}", info->stored_as, fmt::join(types, " or ")));
  return info;
}

void QuantisedFolder::expect_shape(const TensorInfo& info, const std::vector<int64_t>& shape) const {
  if (info.shape != shape) bad(info, fmt::format("has shape {}, expected {}", sizes_text(info.shape), sizes_text(shape)));
}

TensorBytes QuantisedFolder::bytes(const TensorInfo& info) const {
  Tensor view = source->map(info);
  if (!view.data) view = source->map_packed(info);
  if (view.data) return {static_cast<const uint8_t*>(view.data), view.bytes(), nullptr};
  const Tensor shape(nullptr, info.dtype, info.shape);
  auto owned = std::make_shared<Buffer>(shape.bytes());
  source->read(info, Tensor(owned->data(), info.dtype, info.shape));
  return {static_cast<const uint8_t*>(owned->data()), shape.bytes(), owned};
}

ScaleType QuantisedFolder::scale_type(const TensorInfo& info) const {
  if (info.stored_as == "F32") return ScaleType::f32;
  if (info.stored_as == "F16") return ScaleType::f16;
  if (info.stored_as == "BF16") return ScaleType::bf16;
  if (info.stored_as == "F8_E4M3") return ScaleType::e4m3;
  if (info.stored_as == "F8_E8M0" || info.stored_as == "U8") return ScaleType::e8m0;
  bad(info, fmt::format("scales are stored as {}, expected F32, F16, BF16, F8_E4M3 or F8_E8M0", info.stored_as));
}

void take_as_they_lie(const QuantisedFolder& folder, const TensorInfo& info, GroupedWeight& weight) {
  const TensorBytes bytes = folder.bytes(info);
  if (!bytes.owned) weight.in_place = bytes.data;
  weight.take = [&folder, &info](uint8_t* to) {
    const TensorBytes from = folder.bytes(info);
    std::copy_n(from.data, from.size, to);
  };
}

void keep_zeros(GroupTables& tables, Buffer zeros, int64_t count) {
  const auto* all = static_cast<const uint8_t*>(zeros.data());
  if (std::all_of(all, all + count, [&](uint8_t zero) { return zero == all[0]; })) {
    tables.groups.zero += count ? static_cast<float>(all[0]) : 0.0f;
    return;
  }
  tables.zeros = std::move(zeros);
  tables.groups.zeros = static_cast<const uint8_t*>(tables.zeros.data());
}

void keep_scales(const QuantisedFolder& folder, const TensorInfo& info, GroupTables& tables) {
  tables.groups.scale_type = folder.scale_type(info);
  TensorBytes bytes = folder.bytes(info);
  if (bytes.owned) tables.scales = std::move(*bytes.owned);
  tables.groups.scales = bytes.data;
}

void keep_column_groups(const QuantisedFolder& folder, const TensorInfo& info, GroupTables& tables, std::vector<int32_t> list) {
  const auto count = static_cast<int64_t>(list.size());
  for (int64_t c = 0; c < count; ++c)
    if (const int32_t group = list[static_cast<size_t>(c)]; group < 0 || group >= tables.groups.groups)
      folder.bad(info, fmt::format("column {} is in group {}, expected 0 to {}", c, group, tables.groups.groups - 1));
  const auto end_of_first = std::find_if(list.begin(), list.end(), [](int32_t group) { return group != 0; });
  const int64_t length = std::max<int64_t>(1, end_of_first - list.begin());
  bool runs = true;
  for (int64_t c = 0; runs && c < count; ++c) runs = list[static_cast<size_t>(c)] == c / length;
  if (runs) {
    tables.groups.group_cols = length;
    return;
  }
  tables.column_group = std::move(list);
  tables.groups.column_group = tables.column_group.data();
}

}  // namespace loraine
