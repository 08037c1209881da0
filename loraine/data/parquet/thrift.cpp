// One pass with checked bounds. Called through thrift.h.
#include "loraine/data/parquet/thrift.h"

#include "loraine/core/error.h"

namespace loraine::parquet {
namespace {

enum Kind { kTrue = 1, kFalse, kByte, kI16, kI32, kI64, kDouble, kBinary, kList, kSet, kMap, kStruct };

struct Reader {
  std::string_view bytes;
  size_t at;

  [[noreturn]] static void refuse(const char* what) { throw Error(ErrorKind::bad_data, what); }
  size_t left() const { return bytes.size() - at; }
  uint8_t byte() {
    if (left() == 0) refuse("a Thrift value is cut off");
    return static_cast<uint8_t>(bytes[at++]);
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t next = byte();
      value |= static_cast<uint64_t>(next & 0x7f) << shift;
      if (next < 0x80) return value;
    }
    refuse("a Thrift number is longer than 64 bits");
  }
  int64_t zigzag() {
    const uint64_t value = varint();
    return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
  }
  std::string_view take(uint64_t size) {
    if (size > left()) refuse("a Thrift text is cut off");
    at += size;
    return bytes.substr(at - size, size);
  }

  // `in_list`: true and false take a byte there, and none as the field of a struct.
  Thrift value(int kind, int depth, bool in_list) {
    if (depth > 32) refuse("Thrift values are nested deeper than 32 levels");
    Thrift out;
    switch (kind) {
      case kTrue:
      case kFalse: out.number = in_list ? byte() == kTrue : kind == kTrue; break;
      case kByte: out.number = static_cast<int8_t>(byte()); break;
      case kI16:
      case kI32:
      case kI64: out.number = zigzag(); break;
      case kDouble: take(8); break;  // none is needed
      case kBinary: out.bytes = take(varint()); break;
      case kList:
      case kSet: {
        const uint8_t head = byte();
        const uint64_t size = head >> 4 == 15 ? varint() : head >> 4;
        if (size > left()) refuse("a Thrift list is cut off");
        for (uint64_t i = 0; i < size; ++i) out.items.push_back(value(head & 15, depth + 1, true));
        break;
      }
      case kMap: {
        const uint64_t size = varint();
        if (size > left()) refuse("a Thrift map is cut off");
        const uint8_t kinds = size > 0 ? byte() : 0;
        for (uint64_t i = 0; i < size; ++i) {
          value(kinds >> 4, depth + 1, true);
          value(kinds & 15, depth + 1, true);
        }
        break;
      }
      case kStruct: out = structure(depth + 1); break;
      default: refuse("a Thrift value is of a kind that does not exist");
    }
    return out;
  }

  Thrift structure(int depth) {
    Thrift out;
    for (int64_t field = 0;;) {
      const uint8_t head = byte();
      if (head == 0) return out;
      field = head >> 4 ? field + (head >> 4) : zigzag();
      if (field < 0 || field > 32767) refuse("a Thrift field has a number that cannot be");
      out.fields.push_back(value(head & 15, depth, false));
      out.fields.back().field = static_cast<int>(field);
    }
  }
};

}  // namespace

const Thrift* Thrift::find(int wanted) const {
  for (const Thrift& value : fields)
    if (value.field == wanted) return &value;
  return nullptr;
}

const Thrift& Thrift::at(int field) const {
  static const Thrift none;
  const Thrift* found = find(field);
  return found ? *found : none;
}

Thrift read_thrift(std::string_view bytes, size_t& at) {
  Reader reader{bytes, at};
  Thrift out = reader.structure(0);
  at = reader.at;
  return out;
}

}  // namespace loraine::parquet
