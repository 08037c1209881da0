// The only place that knows libcrypto.
#include "loraine/io/hub/hash.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {

struct Hash::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
  explicit State(const EVP_MD* kind) {
    if (!context || EVP_DigestInit_ex(context, kind, nullptr) != 1) throw Error(ErrorKind::internal, "libcrypto: a hash cannot be begun");
  }
};

Hash::Hash(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hash::Hash(Hash&&) noexcept = default;
Hash& Hash::operator=(Hash&&) noexcept = default;
Hash::~Hash() = default;

Hash Hash::sha256() { return Hash(std::make_unique<State>(EVP_sha256())); }

Hash Hash::git_sha1(uint64_t size) {
  Hash hash(std::make_unique<State>(EVP_sha1()));
  const std::string head = "blob " + std::to_string(size);
  hash.add(head.c_str(), head.size() + 1);
  return hash;
}

void Hash::add(const void* data, size_t bytes) {
  if (EVP_DigestUpdate(state_->context, data, bytes) != 1) throw Error(ErrorKind::internal, "libcrypto: a hash cannot be computed");
}

std::string Hash::hex() {
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_DigestFinal_ex(state_->context, bytes, &size) != 1) throw Error(ErrorKind::internal, "libcrypto: a hash cannot be ended");
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += {"0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15]};
  return text;
}

namespace {

template <class Begin>
std::string hash_of_file(const std::string& path, const Begin& begin) {
  size_t size = 0;
  const int fd = open_regular_file(path, size);
  Hash hash = begin(size);
  std::vector<char> piece(1 << 20);
  ssize_t got = 0;
  while ((got = ::read(fd, piece.data(), piece.size())) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    hash.add(piece.data(), static_cast<size_t>(got));
  }
  const int code = errno;
  ::close(fd);
  if (got < 0) throw Error(ErrorKind::io, path + ": cannot be read: " + std::strerror(code));
  return hash.hex();
}

}  // namespace

std::string sha256_of_file(const std::string& path) {
  return hash_of_file(path, [](uint64_t) { return Hash::sha256(); });
}
std::string git_sha1_of_file(const std::string& path) { return hash_of_file(path, Hash::git_sha1); }

std::string base64(const std::string& bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

}  // namespace loraine
