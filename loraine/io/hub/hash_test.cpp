// Hashes that others computed.
#include "loraine/io/hub/hash.h"

#include <gtest/gtest.h>

namespace loraine::hash_test {
namespace {

TEST(HubHash, KnownValues) {
  EXPECT_EQ(Hash::sha256().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Hash sha256 = Hash::sha256();
  sha256.add("a", 1);
  sha256.add("bc", 2);
  EXPECT_EQ(sha256.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hash::git_sha1(0).hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");  // git hash-object of an empty file
  Hash git = Hash::git_sha1(6);
  git.add("hello\n", 6);
  EXPECT_EQ(git.hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(HubHash, Base64) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("a"), "YQ==");
  EXPECT_EQ(base64(std::string("\0\xff\x10", 3)), "AP8Q");
}

}  // namespace
}  // namespace loraine::hash_test
