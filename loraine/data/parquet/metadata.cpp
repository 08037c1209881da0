// Footer, schema and row groups, checked against the bytes of the file. Called through metadata.h.
#include "loraine/data/parquet/metadata.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/data/parquet/thrift.h"

namespace loraine::parquet {
namespace {

constexpr uint64_t kMostFooter = 16u << 20;
constexpr int kMostDepth = 32;

// Values of one column in one row group: runs can stand for many, but not for any number that a few bytes claim.
int64_t most_values(std::string_view file) {
  return std::max(int64_t{1} << 22, std::min(int64_t{1} << 27, static_cast<int64_t>(file.size()) * 256));
}

[[noreturn]] void refuse_metadata(const std::string& what) { throw Error(ErrorKind::bad_data, what); }

uint32_t u32(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

// converted_type and the fields of the union logicalType.
constexpr int kConvertedMap = 1, kConvertedMapKeyValue = 2, kConvertedList = 3, kConvertedUnsigned8 = 11, kConvertedUnsigned64 = 14;
constexpr int kLogicalMap = 2, kLogicalList = 3, kLogicalInteger = 10;

struct Schema {
  const std::vector<Thrift>& elements;
  size_t next = 0;
  int leaves = 0;

  Field read(int depth, int definition, int repetition) {
    if (next >= elements.size()) refuse_metadata("the schema ends before its fields do");
    if (depth > kMostDepth) refuse_metadata(fmt::format("fields are nested deeper than {} levels", kMostDepth));
    const bool root = next == 0;
    const Thrift& element = elements[next++];
    Field field;
    field.name = std::string(element.at(4).bytes);
    const int64_t kind = root ? 0 : element.at(3).number, children = element.at(5).number,
                  converted = element.has(6) ? element.at(6).number : -1;
    const Thrift& logical = element.at(10);
    if (kind < 0 || kind > 2) refuse_metadata(fmt::format("field `{}`: neither required, optional nor repeated", field.name));
    field.optional = kind == 1;
    field.repeated = kind == 2;
    field.definition = definition + (kind != 0);
    field.repetition = repetition + field.repeated;
    field.column = leaves;
    if (children < 0 || static_cast<uint64_t>(children) > elements.size())
      refuse_metadata(fmt::format("field `{}`: {} children", field.name, children));
    for (int64_t i = 0; i < children; ++i) field.children.push_back(read(depth + 1, field.definition, field.repetition));
    if (children == 0) {
      if (root) refuse_metadata("it has no columns");
      const int64_t physical = element.at(1).number;
      if (!element.has(1) || physical < 0 || physical > 7)
        refuse_metadata(fmt::format("field `{}`: its type is not one of Parquet's", field.name));
      field.physical = static_cast<Physical>(physical);
      field.width = element.at(2).number;
      if (field.physical == Physical::fixed_bytes && (field.width < 1 || field.width > 1 << 20))
        refuse_metadata(fmt::format("field `{}`: values of {} bytes", field.name, field.width));
      field.is_unsigned = (converted >= kConvertedUnsigned8 && converted <= kConvertedUnsigned64) ||
                          (logical.has(kLogicalInteger) && logical.at(kLogicalInteger).at(2).number == 0);
      ++leaves;
    }
    field.columns = leaves - field.column;
    const bool marked = converted == kConvertedList || converted == kConvertedMap || converted == kConvertedMapKeyValue ||
                        logical.has(kLogicalList) || logical.has(kLogicalMap);
    field.list = marked && field.children.size() == 1 && field.children[0].repeated;
    return field;
  }
};

void collect_leaves(const Field& field, std::vector<const Field*>& leaves) {
  if (field.children.empty()) leaves.push_back(&field);
  for (const Field& child : field.children) collect_leaves(child, leaves);
}

Chunk read_chunk(const Thrift& column, const Field& leaf, uint64_t end, int64_t most) {
  const Thrift& data = column.at(3);
  const auto wrong = [&](const std::string& what) { refuse_metadata(fmt::format("column `{}`: {}", leaf.name, what)); };
  if (!column.at(1).bytes.empty()) wrong("its bytes are in another file");
  if (!column.has(3)) wrong("encrypted, or without a description");
  if (data.at(1).number != static_cast<int64_t>(leaf.physical)) wrong("its type is another one than the schema says");
  const int64_t values = data.at(5).number;
  if (values < 0 || values > most) wrong(fmt::format("{} values in one row group, at most {} are read", values, most));
  if (values == 0) return {};  // of an empty row group, which may have no pages
  const int64_t first = data.at(9).number, dictionary = data.at(11).number, size = data.at(7).number;
  const int64_t offset = dictionary > 0 && dictionary < first ? dictionary : first;
  if (offset < 4 || size < 0 || static_cast<uint64_t>(offset) > end || static_cast<uint64_t>(size) > end - static_cast<uint64_t>(offset))
    wrong(fmt::format("{} bytes at {} do not lie in the file", size, offset));
  return {static_cast<uint64_t>(offset), static_cast<uint64_t>(size), values, static_cast<int>(data.at(4).number)};
}

}  // namespace

void read_metadata(std::string_view file, Metadata& metadata) {
  if (file.size() < 12 || file.substr(0, 4) != "PAR1")
    refuse_metadata(file.substr(0, 4) == "PARE" ? "an encrypted Parquet file" : "not a Parquet file");
  if (file.substr(file.size() - 4) != "PAR1") refuse_metadata("it does not end as a Parquet file does; was it copied whole?");
  const uint64_t size = u32(file, file.size() - 8), end = file.size() - 8;
  if (size > end - 4 || size > kMostFooter) refuse_metadata(fmt::format("its footer is said to have {} bytes", size));
  size_t at = 0;
  const Thrift footer = read_thrift(file.substr(end - size, size), at);
  Schema schema{footer.at(2).items};
  metadata.root = schema.read(0, 0, 0);
  if (schema.next != schema.elements.size()) refuse_metadata("the schema has fields that belong to nothing");
  collect_leaves(metadata.root, metadata.leaves);
  for (const Thrift& group : footer.at(4).items) {
    RowGroup one{group.at(3).number, {}};
    const std::vector<Thrift>& columns = group.at(1).items;
    if (columns.size() != metadata.leaves.size())
      refuse_metadata(fmt::format("a row group has {} columns, the schema {}", columns.size(), metadata.leaves.size()));
    for (size_t i = 0; i < columns.size(); ++i)
      one.chunks.push_back(read_chunk(columns[i], *metadata.leaves[i], end - size, most_values(file)));
    if (one.rows < 0 || one.rows > most_values(file)) refuse_metadata(fmt::format("a row group of {} rows", one.rows));
    metadata.groups.push_back(std::move(one));
  }
}

}  // namespace loraine::parquet
