// Messages of an Arrow stream: the schema, and batches as views of their bodies. Called through arrow.h.
#include <fmt/format.h>
#include <zstd.h>

#include "loraine/data/arrow/arrow.h"
#include "loraine/data/arrow/flatbuffer.h"

namespace loraine {
namespace {

constexpr int kMaxDepth = 32;
constexpr int64_t kMostRows = int64_t{1} << 32;        // of one batch: a column of nulls has no bytes that would limit it
constexpr uint64_t kMostUnpacked = uint64_t{1} << 32;  // of one buffer

enum HeaderType : uint8_t { kSchema = 1, kDictionary = 2, kBatch = 3 };

int64_t checked_size(int64_t count, int64_t bits) {  // bytes of `count` values
  if (count < 0 || count > INT64_MAX / 64) bad_arrow("a column has more rows than can be");
  return (count * bits + 7) / 8;
}

ArrowField read_field(const FlatTable& table, int depth) {
  if (depth > kMaxDepth) bad_arrow(fmt::format("columns nested deeper than {} levels", kMaxDepth));
  ArrowField field;
  field.name = std::string(table.text(0));
  if (table.has(4))
    throw Error(ErrorKind::bad_data, fmt::format("column `{}` is dictionary-encoded, which is not read", field.name),
                "write it anew with plain columns: in pyarrow, table.cast or combine_chunks after column.dictionary_decode()");
  const auto type = table.scalar<uint8_t>(2, 0);
  const auto integer = [&](int bits) {
    field.kind = ArrowKind::integer;
    field.bits = bits;
  };
  switch (type) {
    case 1: field.kind = ArrowKind::null; break;
    case 2:
      integer(table.table(3).scalar<int32_t>(0, 0));
      field.is_signed = table.table(3).scalar<uint8_t>(1, 0) != 0;
      if (field.bits != 8 && field.bits != 16 && field.bits != 32 && field.bits != 64)
        bad_arrow(fmt::format("column `{}` has integers of {} bits", field.name, field.bits));
      break;
    case 3: {
      const auto precision = table.table(3).scalar<int16_t>(0, 0);
      field.kind = precision == 1 || precision == 2 ? ArrowKind::floating : ArrowKind::other;
      field.bits = precision == 2 ? 64 : 32;
      break;
    }
    case 4:  // Binary
    case 5:  // Utf8
    case 19:
    case 20:
      field.kind = ArrowKind::text;
      field.large = type >= 19;
      break;
    case 6: field.kind = ArrowKind::boolean; break;
    case 8: integer(table.table(3).scalar<int16_t>(0, 1) == 0 ? 32 : 64); break;    // Date
    case 9: integer(table.table(3).scalar<int32_t>(1, 32) == 32 ? 32 : 64); break;  // Time
    case 10:                                                                        // Timestamp
    case 18: integer(64); break;                                                    // Duration
    case 12:
    case 17:  // Map: a list of keys and values
    case 21:
      field.kind = ArrowKind::list;
      field.large = type == 21;
      break;
    case 13: field.kind = ArrowKind::structure; break;
    case 16:
      field.kind = ArrowKind::fixed_list;
      field.list_size = table.table(3).scalar<int32_t>(0, 0);
      if (field.list_size < 0) bad_arrow(fmt::format("column `{}` has lists of {} items", field.name, field.list_size));
      break;
    default: break;
  }
  for (const FlatTable& child : table.tables(5)) field.children.push_back(read_field(child, depth + 1));
  const bool list = field.kind == ArrowKind::list || field.kind == ArrowKind::fixed_list;
  if (list && field.children.size() != 1) bad_arrow(fmt::format("column `{}` is a list of {} kinds", field.name, field.children.size()));
  if (field.kind == ArrowKind::other)
    throw Error(ErrorKind::bad_data, fmt::format("column `{}` has a type that is not read (number {} of Arrow's)", field.name, type),
                "write it anew without that column, or as text or numbers");
  return field;
}

std::string unpack_zstd(std::string_view packed, uint64_t size) {
  const unsigned long long said = ZSTD_getFrameContentSize(packed.data(), packed.size());  // looked at before so much memory is taken
  if (said == ZSTD_CONTENTSIZE_ERROR || (said != ZSTD_CONTENTSIZE_UNKNOWN && said != size)) bad_arrow("a compressed buffer is damaged");
  if (size > kMostUnpacked) bad_arrow("a compressed buffer would have more than 4 GiB");
  std::string out(size, '\0');
  const size_t made = ZSTD_decompress(out.data(), out.size(), packed.data(), packed.size());
  if (ZSTD_isError(made) || made != size) bad_arrow("a compressed buffer is damaged");
  return out;
}

// Hands out the nodes and buffers of a batch in the order of its columns.
struct BatchLayout {
  std::string_view nodes, buffers, body;
  size_t node = 0, buffer = 0;
  int8_t codec = -1;
  ArrowBatch& batch;

  std::pair<int64_t, int64_t> next_node() {
    int64_t both[2];
    if ((node + 1) * 16 > nodes.size()) bad_arrow("a batch describes fewer columns than the schema");
    std::memcpy(both, nodes.data() + 16 * node++, 16);
    if (both[0] < 0 || both[1] < 0 || both[1] > both[0]) bad_arrow("a column with a number of rows that cannot be");
    return {both[0], both[1]};
  }
  std::string_view next_buffer() {
    int64_t both[2];
    if ((buffer + 1) * 16 > buffers.size()) bad_arrow("a batch has fewer buffers than the schema asks for");
    std::memcpy(both, buffers.data() + 16 * buffer++, 16);
    const auto size = static_cast<int64_t>(body.size());
    if (both[0] < 0 || both[1] < 0 || both[0] > size || both[1] > size - both[0]) bad_arrow("a buffer lies outside of its batch");
    const std::string_view bytes = body.substr(static_cast<size_t>(both[0]), static_cast<size_t>(both[1]));
    if (codec < 0 || bytes.empty()) return bytes;
    int64_t whole = 0;
    if (bytes.size() < 8) bad_arrow("a compressed buffer is cut off");
    std::memcpy(&whole, bytes.data(), 8);
    if (whole == -1) return bytes.substr(8);  // left as it was
    if (whole < 0) bad_arrow("a compressed buffer has a size below 0");
    batch.unpacked.push_back(unpack_zstd(bytes.substr(8), static_cast<uint64_t>(whole)));
    return batch.unpacked.back();
  }

  ArrowColumn column(const ArrowField& field) {
    ArrowColumn made;
    made.field = &field;
    const auto [length, nulls] = next_node();
    made.length = length;
    const auto need = [&](std::string_view bytes, int64_t count, int64_t bits) {
      if (static_cast<int64_t>(bytes.size()) < checked_size(count, bits)) bad_arrow(fmt::format("column `{}` is cut off", field.name));
    };
    if (field.kind == ArrowKind::null) return made;
    const std::string_view validity = next_buffer();
    if (nulls > 0) {
      need(validity, length, 1);
      made.validity = validity;
    }
    const bool offsets = field.kind == ArrowKind::text || field.kind == ArrowKind::list;
    if (offsets) {
      made.offsets = next_buffer();
      if (length > 0) need(made.offsets, length + 1, field.large ? 64 : 32);
    }
    if (field.kind == ArrowKind::text) made.data = next_buffer();
    if (field.kind == ArrowKind::integer || field.kind == ArrowKind::floating || field.kind == ArrowKind::boolean) {
      made.data = next_buffer();
      need(made.data, length, field.kind == ArrowKind::boolean ? 1 : field.bits);
    }
    for (const ArrowField& child : field.children) made.children.push_back(column(child));
    if (field.kind == ArrowKind::structure)
      for (const ArrowColumn& child : made.children)
        if (child.length < length) bad_arrow(fmt::format("column `{}` is longer than its part `{}`", field.name, child.field->name));
    if (field.kind == ArrowKind::fixed_list && field.list_size > 0 && made.children[0].length / field.list_size < length)
      bad_arrow(fmt::format("column `{}` has fewer items than its rows ask for", field.name));
    return made;
  }
};

}  // namespace

struct ArrowReader::Message {
  uint8_t type = 0;
  std::string_view header, body;
};

bool ArrowReader::read_message(Message& message) {
  if (ended_ || at_ == bytes_.size()) return false;
  const auto word = [&] {
    int32_t value = 0;
    if (bytes_.size() - at_ < 4) bad_arrow("it ends within a message");
    std::memcpy(&value, bytes_.data() + at_, 4);
    at_ += 4;
    return value;
  };
  int32_t size = word();
  if (size == -1) size = word();  // a mark that older writers leave out
  if (size == 0) {
    ended_ = true;
    return false;
  }
  if (size < 8 || static_cast<size_t>(size) > bytes_.size() - at_) bad_arrow("it ends within a message; was it written whole?");
  message.header = bytes_.substr(at_, static_cast<size_t>(size));
  at_ += static_cast<size_t>(size);
  const FlatTable table = FlatTable::root(message.header);
  message.type = table.scalar<uint8_t>(1, 0);
  const auto body = table.scalar<int64_t>(3, 0);
  if (body < 0 || static_cast<uint64_t>(body) > bytes_.size() - at_) bad_arrow("it ends within a batch; was it written whole?");
  message.body = bytes_.substr(at_, static_cast<size_t>(body));
  at_ += static_cast<size_t>(body);
  return true;
}

ArrowReader::ArrowReader(std::string_view bytes) : bytes_(bytes) {
  if (bytes.starts_with("ARROW1")) at_ = 8;  // the file format is a stream between a mark and a list of its batches
  if (at_ > bytes.size()) bad_arrow("it ends within its first bytes");
  Message message;
  if (!read_message(message) || message.type != kSchema) bad_arrow("it does not begin with a schema");
  const FlatTable schema = FlatTable::root(message.header).table(2);
  if (schema.scalar<int16_t>(0, 0) != 0) bad_arrow("its numbers are big-endian");
  for (const FlatTable& field : schema.tables(1)) fields_.push_back(read_field(field, 0));
}

bool ArrowReader::next(ArrowBatch& batch) {
  Message message;
  do {
    if (!read_message(message)) return false;
    if (message.type == kDictionary) bad_arrow("it holds a dictionary that no column asks for");
  } while (message.type != kBatch);
  const FlatTable table = FlatTable::root(message.header).table(2);
  batch = {};
  batch.length = table.scalar<int64_t>(0, 0);
  size_t nodes = 0, buffers = 0;
  BatchLayout layout{table.vector(1, 16, &nodes), table.vector(2, 16, &buffers), message.body, 0, 0, -1, batch};
  batch.unpacked.reserve(buffers);  // columns are views of its texts
  if (table.has(3)) {
    layout.codec = table.table(3).scalar<int8_t>(0, 0);
    if (layout.codec != 1)
      throw Error(ErrorKind::bad_data, "its batches are compressed with LZ4, and only zstd is read",
                  "write it anew without compression, or with zstd");
  }
  if (batch.length < 0 || batch.length > kMostRows) bad_arrow(fmt::format("a batch of {} rows", batch.length));
  for (const ArrowField& field : fields_) {
    batch.columns.push_back(layout.column(field));
    if (batch.columns.back().length != batch.length)
      bad_arrow(fmt::format("column `{}` has {} rows in a batch of {}", field.name, batch.columns.back().length, batch.length));
  }
  return true;
}

}  // namespace loraine
