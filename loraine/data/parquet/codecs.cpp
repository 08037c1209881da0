// Snappy and LZ4 blocks are a page of code each; gzip is zlib's, zstd libzstd's. Called through codecs.h.
#include "loraine/data/parquet/codecs.h"

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include "loraine/core/error.h"

namespace loraine::parquet {
namespace {

[[noreturn]] void damaged(const char* codec) { throw Error(ErrorKind::bad_data, fmt::format("a page's {} data are damaged", codec)); }

// Bytes that are written, of which later ones repeat earlier ones.
struct Output {
  std::string bytes;
  size_t size;  // that it will have
  const char* codec;

  void literal(std::string_view more) {
    if (more.size() > size - bytes.size()) damaged(codec);
    bytes += more;
  }
  void copy(size_t distance, size_t length) {
    if (distance == 0 || distance > bytes.size() || length > size - bytes.size()) damaged(codec);
    if (distance >= length) bytes.append(bytes, bytes.size() - distance, length);
    else
      for (size_t i = 0; i < length; ++i) bytes += bytes[bytes.size() - distance];  // it repeats what it writes
  }
  std::string done() {
    if (bytes.size() != size) damaged(codec);
    return std::move(bytes);
  }
};

struct Input {
  std::string_view bytes;
  const char* codec;
  size_t at = 0;

  size_t byte() {
    if (at >= bytes.size()) damaged(codec);
    return static_cast<uint8_t>(bytes[at++]);
  }
  size_t little_endian(size_t count) {
    size_t value = 0;
    for (size_t i = 0; i < count; ++i) value |= byte() << (8 * i);
    return value;
  }
  std::string_view take(size_t length) {
    if (length > bytes.size() - at) damaged(codec);
    at += length;
    return bytes.substr(at - length, length);
  }
};

Output output_of(size_t size, const char* codec) {
  Output out{{}, size, codec};
  out.bytes.reserve(size);
  return out;
}

// Snappy's raw format: the size as a varint, then literals and copies.
std::string unpack_snappy(std::string_view packed, size_t size) {
  Input in{packed, "Snappy"};
  size_t said = 0;
  for (int shift = 0;; shift += 7) {
    const size_t next = in.byte();
    said |= (next & 0x7f) << shift;
    if (next < 0x80) break;
    if (shift >= 28) damaged(in.codec);
  }
  if (said != size) damaged(in.codec);
  Output out = output_of(size, in.codec);
  while (in.at < packed.size()) {
    const size_t tag = in.byte(), kind = tag & 3;
    if (kind == 0) {
      const size_t length = tag >> 2;
      out.literal(in.take(1 + (length < 60 ? length : in.little_endian(length - 59))));
    } else if (kind == 1) {
      const size_t distance = (tag >> 5) << 8 | in.byte();
      out.copy(distance, 4 + ((tag >> 2) & 7));
    } else {
      const size_t distance = in.little_endian(kind == 2 ? 2 : 4);
      out.copy(distance, 1 + (tag >> 2));
    }
  }
  return out.done();
}

// LZ4's block format: literals and a copy in turn; the last has no copy.
std::string unpack_lz4(std::string_view packed, size_t size) {
  Input in{packed, "LZ4"};
  Output out = output_of(size, in.codec);
  const auto length_from = [&](size_t nibble) {
    size_t length = nibble;
    for (size_t more = 255; nibble == 15 && more == 255;) length += more = in.byte();
    return length;
  };
  while (in.at < packed.size()) {
    const size_t token = in.byte();
    out.literal(in.take(length_from(token >> 4)));
    if (in.at >= packed.size()) break;
    const size_t distance = in.little_endian(2);
    out.copy(distance, 4 + length_from(token & 15));
  }
  return out.done();
}

std::string unpack_gzip(std::string_view packed, size_t size) {
  std::string out(size + 1, '\0');  // one more shows what is too long
  z_stream z{};
  if (inflateInit2(&z, 15 + 32) != Z_OK) throw Error(ErrorKind::internal, "zlib does not start");  // 32: gzip or zlib
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  z.avail_in = static_cast<uInt>(packed.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  const int code = inflate(&z, Z_FINISH);
  const size_t made = z.total_out;
  inflateEnd(&z);
  if (code != Z_STREAM_END || made != size) damaged("gzip");
  out.resize(size);
  return out;
}

std::string unpack_zstd(std::string_view packed, size_t size) {
  std::string out(size, '\0');
  if (ZSTD_decompress(out.data(), size, packed.data(), packed.size()) != size) damaged("zstd");
  return out;
}

}  // namespace

std::string unpack(int codec, std::string_view packed, size_t size) {
  constexpr const char* kNames[] = {"none", "Snappy", "gzip", "LZO", "Brotli", "LZ4 in Hadoop's frames", "zstd", "LZ4"};
  switch (codec) {
    case 0:
      if (packed.size() != size)
        throw Error(ErrorKind::bad_data, fmt::format("a page of {} bytes is said to have {}", packed.size(), size));
      return std::string(packed);
    case 1: return unpack_snappy(packed, size);
    case 2: return unpack_gzip(packed, size);
    case 6: return unpack_zstd(packed, size);
    case 7: return unpack_lz4(packed, size);
    default:
      throw Error(ErrorKind::bad_data, fmt::format("its pages are compressed with {}; none, Snappy, gzip, zstd and LZ4 are read",
                                                   codec >= 0 && codec < 8 ? kNames[codec] : fmt::format("codec {}", codec)));
  }
}

}  // namespace loraine::parquet
