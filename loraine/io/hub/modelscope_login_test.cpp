// What modelscope_hub 0.5.1 writes when it logs in, and damaged forms of it.
#include "loraine/io/hub/modelscope_login.h"

#include <gtest/gtest.h>

#include "loraine/core/base64.h"
#include "loraine/core/error.h"

namespace loraine::modelscope_login_test {
namespace {

// HubConfig(endpoint="https://www.modelscope.cn").save_token("ms-stored-token"), good until 1797592000.
const char* const kCookies =
    "gASVxwIAAAAAAACMEHJlcXVlc3RzLmNvb2tpZXOUjBFSZXF1ZXN0c0Nvb2tpZUphcpSTlCmBlH2UKIwHX3BvbGljeZSMDmh0dHAuY29va2llamFylIwTRGVmYXVsdENv"
    "b2tpZVBvbGljeZSTlCmBlH2UKIwIbmV0c2NhcGWUiIwHcmZjMjk2NZSJjBNyZmMyMTA5X2FzX25ldHNjYXBllE6MDGhpZGVfY29va2llMpSJjA1zdHJpY3RfZG9tYWlu"
    "lImMG3N0cmljdF9yZmMyOTY1X3VudmVyaWZpYWJsZZSIjBZzdHJpY3RfbnNfdW52ZXJpZmlhYmxllImMEHN0cmljdF9uc19kb21haW6USwCMHHN0cmljdF9uc19zZXRf"
    "aW5pdGlhbF9kb2xsYXKUiYwSc3RyaWN0X25zX3NldF9wYXRolImMEHNlY3VyZV9wcm90b2NvbHOUjAVodHRwc5SMA3dzc5SGlIwQX2Jsb2NrZWRfZG9tYWluc5QpjBBf"
    "YWxsb3dlZF9kb21haW5zlE51YowIX2Nvb2tpZXOUfZSMEXd3dy5tb2RlbHNjb3BlLmNulH2UjAEvlH2UjAxtX3Nlc3Npb25faWSUaAaMBkNvb2tpZZSTlCmBlH2UKIwH"
    "dmVyc2lvbpRLAIwEbmFtZZRoIYwFdmFsdWWUjA9tcy1zdG9yZWQtdG9rZW6UjARwb3J0lE6MDnBvcnRfc3BlY2lmaWVklImMBmRvbWFpbpRoHYwQZG9tYWluX3NwZWNp"
    "ZmllZJSIjBJkb21haW5faW5pdGlhbF9kb3SUiYwEcGF0aJRoH4wOcGF0aF9zcGVjaWZpZWSUiIwGc2VjdXJllImMB2V4cGlyZXOUSsATJWuMB2Rpc2NhcmSUiYwHY29t"
    "bWVudJROjAtjb21tZW50X3VybJROjAdyZmMyMTA5lImMBV9yZXN0lH2UdWJzc3N1Yi4=";

std::string cookies() { return from_base64(kCookies).value(); }

TEST(ModelscopeLogin, TokenOfTheHubAlone) {
  constexpr int64_t now = 1796000000;
  EXPECT_EQ(session_cookie("cookies", cookies(), "www.modelscope.cn", now), "ms-stored-token");
  EXPECT_EQ(session_cookie("cookies", cookies(), "data.www.modelscope.cn", now), "ms-stored-token");
  for (const char* host : {"www.modelscope.ai", "modelscope.cn", "xwww.modelscope.cn", "www.modelscope.cn.example.org", "127.0.0.1"})
    EXPECT_EQ(session_cookie("cookies", cookies(), host, now), "") << host;
  EXPECT_EQ(session_cookie("cookies", cookies(), "www.modelscope.cn", 1797592000), "");  // it has expired
}

TEST(ModelscopeLogin, DamagedBytes) {
  const std::string good = cookies();
  for (size_t size = 0; size < good.size(); ++size) EXPECT_THROW(session_cookie("f", good.substr(0, size), "x", 0), Error) << size;
  for (size_t at = 0; at < good.size(); ++at)  // whatever it says, it ends
    for (const int bit : {1, 4, 7}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      try {
        session_cookie("f", bytes, "www.modelscope.cn", 0);
      } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::bad_data); }
    }
  try {
    session_cookie("f", "[]", "x", 0);
    ADD_FAILURE();
  } catch (const Error& error) { EXPECT_NE(error.hint.find("MODELSCOPE_API_TOKEN"), std::string::npos); }
}

}  // namespace
}  // namespace loraine::modelscope_login_test
