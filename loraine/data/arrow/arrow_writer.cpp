// See arrow_writer.h.
#include "loraine/data/arrow/arrow_writer.h"

#include <algorithm>

#include "loraine/data/arrow/flatbuffer.h"

namespace loraine {
namespace {

constexpr int64_t kRowsOfABatch = 1000;              // as `datasets` has them
constexpr size_t kBytesOfABatch = size_t{64} << 20;  // far below what offsets of 32 bits reach
constexpr int16_t kVersion = 4;                      // MetadataVersion.V5
enum TypeNumber : uint8_t { kNull = 1, kInt = 2, kBool = 6, kList = 12 };

int32_t bits_of(ArrowType type) { return type == ArrowType::int8_list ? 8 : type == ArrowType::int32_list ? 32 : 64; }
bool is_list(ArrowType type) { return type != ArrowType::null && type != ArrowType::boolean; }

uint32_t field(FlatBuilder& builder, const std::string& name, uint8_t type, int32_t bits, const std::vector<uint32_t>& children) {
  const uint32_t text = builder.text(name), list = builder.offsets(children);
  builder.begin_table(type == kInt ? 2 : 0);
  if (type == kInt) {
    builder.scalar<int32_t>(0, bits);
    builder.scalar<uint8_t>(1, 1);  // signed
  }
  const uint32_t kind = builder.end_table();
  builder.begin_table(6);
  builder.link(0, text);
  builder.link(3, kind);
  builder.link(5, list);
  builder.scalar<uint8_t>(1, 1);  // may be null
  builder.scalar<uint8_t>(2, type);
  return builder.end_table();
}

std::string message(FlatBuilder& builder, uint8_t type, uint32_t header, int64_t body) {
  builder.begin_table(4);
  builder.scalar<int64_t>(3, body);
  builder.link(2, header);
  builder.scalar<int16_t>(0, kVersion);
  builder.scalar<uint8_t>(1, type);
  const std::string bytes = builder.finish(builder.end_table());
  const int32_t mark = -1, size = static_cast<int32_t>((bytes.size() + 7) / 8 * 8);
  std::string out(reinterpret_cast<const char*>(&mark), 4);
  out.append(reinterpret_cast<const char*>(&size), 4);
  out += bytes;
  out.resize(8 + static_cast<size_t>(size), '\0');
  return out;
}

std::string schema_message(const std::vector<ArrowWriteColumn>& columns, const std::string& metadata) {
  FlatBuilder builder;
  std::vector<uint32_t> fields;
  for (const ArrowWriteColumn& column : columns) {
    std::vector<uint32_t> children;
    if (is_list(column.type)) children.push_back(field(builder, "item", kInt, bits_of(column.type), {}));
    const uint8_t type = column.type == ArrowType::null ? kNull : column.type == ArrowType::boolean ? kBool : kList;
    fields.push_back(field(builder, column.name, type, 0, children));
  }
  const uint32_t all = builder.offsets(fields);
  const uint32_t key = builder.text("huggingface"), value = builder.text(metadata);
  builder.begin_table(2);
  builder.link(0, key);
  builder.link(1, value);
  const uint32_t pairs = builder.offsets({builder.end_table()});
  builder.begin_table(3);
  builder.link(1, all);
  builder.link(2, pairs);
  builder.scalar<int16_t>(0, 0);  // little endian
  return message(builder, 1, builder.end_table(), 0);
}

}  // namespace

ArrowWriter::ArrowWriter(std::vector<ArrowWriteColumn> columns, const std::string& metadata, std::function<void(std::string_view)> write)
    : columns_(std::move(columns)), values_(columns_.size()), write_(std::move(write)) {
  write_(schema_message(columns_, metadata));
}

void ArrowWriter::add(size_t i, std::span<const int32_t> list) {
  Values& values = values_[i];
  for (const int32_t item : list) {
    const int64_t wide = item;
    values.bytes.append(reinterpret_cast<const char*>(&wide), static_cast<size_t>(bits_of(columns_[i].type) / 8));
  }
  values.offsets.push_back(static_cast<int32_t>(values.bytes.size() / static_cast<size_t>(bits_of(columns_[i].type) / 8)));
}

void ArrowWriter::add(size_t i, bool value) {
  Values& values = values_[i];
  if (values.count % 8 == 0) values.bytes.push_back('\0');
  if (value) values.bytes.back() = static_cast<char>(values.bytes.back() | 1 << (values.count % 8));
  ++values.count;
}

void ArrowWriter::end_row() {
  ++rows_;
  const bool full = std::any_of(values_.begin(), values_.end(), [](const Values& v) { return v.bytes.size() >= kBytesOfABatch; });
  if (rows_ == kRowsOfABatch || full) flush();
}

void ArrowWriter::flush() {
  if (rows_ == 0) return;
  std::string nodes, buffers, body;
  size_t node_count = 0, buffer_count = 0;
  const auto node = [&](int64_t length, int64_t nulls) {
    nodes.append(reinterpret_cast<const char*>(&length), 8);
    nodes.append(reinterpret_cast<const char*>(&nulls), 8);
    ++node_count;
  };
  const auto buffer = [&](std::string_view bytes) {
    const int64_t place[2] = {static_cast<int64_t>(body.size()), static_cast<int64_t>(bytes.size())};
    buffers.append(reinterpret_cast<const char*>(place), 16);
    body += bytes;
    body.resize((body.size() + 7) / 8 * 8, '\0');
    ++buffer_count;
  };
  for (size_t i = 0; i < columns_.size(); ++i) {
    Values& values = values_[i];
    const ArrowType type = columns_[i].type;
    node(rows_, type == ArrowType::null ? rows_ : 0);
    if (type == ArrowType::null) continue;
    buffer("");  // none is null
    if (is_list(type)) {
      std::vector<int32_t> offsets(values.offsets.size() + 1, 0);
      std::copy(values.offsets.begin(), values.offsets.end(), offsets.begin() + 1);
      buffer({reinterpret_cast<const char*>(offsets.data()), 4 * offsets.size()});
      node(offsets.back(), 0);
      buffer("");
    }
    buffer(values.bytes);
    values = {};
  }
  FlatBuilder builder;
  const uint32_t list = builder.vector(buffers, buffer_count, 8), lengths = builder.vector(nodes, node_count, 8);
  builder.begin_table(3);
  builder.scalar<int64_t>(0, rows_);
  builder.link(1, lengths);
  builder.link(2, list);
  write_(message(builder, 3, builder.end_table(), static_cast<int64_t>(body.size())));
  write_(body);
  rows_ = 0;
}

void ArrowWriter::finish() {
  flush();
  const int32_t end[2] = {-1, 0};
  write_({reinterpret_cast<const char*>(end), 8});
}

}  // namespace loraine
