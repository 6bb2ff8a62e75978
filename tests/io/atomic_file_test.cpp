#include "deltatune/io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <set>
#include <string>

#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::content_of;
using test::error_text;
using test::TemporaryFolder;
using Names = std::set<std::string>;

TEST_CASE("AtomicFile: the name appears with commit, whole, in place of the old file", "[atomic_file]") {
  const TemporaryFolder folder;
  folder.file("out.txt", "old");
  {
    AtomicFile file(folder / "out.txt");
    file.write("first ");
    file.write(std::as_bytes(std::span("second", 6)));
    CHECK(content_of(folder / "out.txt") == "old");
    file.commit();
    CHECK(content_of(folder / "out.txt") == "first second");
  }
  CHECK(content_of(folder / "out.txt") == "first second");
  CHECK(folder.names() == Names{"out.txt"});
}

TEST_CASE("AtomicFile: nothing remains without commit, not even through a move", "[atomic_file]") {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "out.txt");
    file.write("text");
    const AtomicFile moved(std::move(file));
    CHECK(folder.names().size() == 1);
  }
  CHECK(folder.names().empty());
}

TEST_CASE("AtomicFile: the permissions are those of any new file", "[atomic_file]") {
  const TemporaryFolder folder;
  const mode_t mask = ::umask(0027);
  write_text_file(folder / "out.txt", "text");
  ::umask(mask);
  CHECK(std::filesystem::status(folder / "out.txt").permissions() == std::filesystem::perms{0640});
}

TEST_CASE("AtomicFile: a plain name means the current folder", "[atomic_file]") {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_text_file("out.txt", "text");
  std::filesystem::current_path(before);
  CHECK(content_of(folder / "out.txt") == "text");
}

TEST_CASE("what killed processes left on their way to a file is found by its name", "[atomic_file]") {
  const TemporaryFolder folder;
  for (const char* name : {".out.txt.123.tmp", ".out.txt.9.tmp", ".out.txt.tmp", ".out.txt.1x.tmp", "out.txt.1.tmp", ".other.1.tmp", "out.txt", ".out.txt.7"})
    folder.file(name, "");
  remove_leftovers(folder.path(), "out.txt");
  CHECK(folder.names() == Names{".out.txt.tmp", ".out.txt.1x.tmp", "out.txt.1.tmp", ".other.1.tmp", "out.txt", ".out.txt.7"});
  remove_leftovers(folder / "none", "out.txt");
}

TEST_CASE("AtomicFile: targets that cannot be written", "[atomic_file]") {
  const TemporaryFolder folder;
  CHECK_THAT(error_text([&] { AtomicFile(folder / "none/out.txt"); }),
             Contains("none/out.txt: cannot create the file: No such file or directory") && Contains("its folder must exist"));
  folder.file("plain", "");
  CHECK_THAT(error_text([&] { AtomicFile(folder / "plain/out.txt"); }), Contains("Not a directory"));
  CHECK_THAT(error_text([&] { AtomicFile(folder.path()); }), Contains("is a folder"));
  CHECK_THAT(error_text([] { AtomicFile("/dev/full"); }), Contains("/dev/full: is not a regular file"));
  CHECK_THAT(error_text([] { AtomicFile("/proc/out.txt"); }), Contains("/proc/out.txt: cannot create the file"));
  CHECK_THAT(error_text([] { AtomicFile(""); }), Contains("\"\": names no file"));
  CHECK_THAT(error_text([&] { AtomicFile(folder / "none/"); }), Contains("none/\": names no file"));

  std::filesystem::permissions(folder.path(), std::filesystem::perms{0555});
  if (::geteuid() == 0) {
    WARN("skipped: a folder without write permission (root may write everywhere)");
  } else {
    CHECK_THAT(error_text([&] { AtomicFile(folder / "out.txt"); }), Contains("Permission denied") && Contains("check the permissions"));
  }
  std::filesystem::permissions(folder.path(), std::filesystem::perms{0755});
}

TEST_CASE("AtomicFile: the folder disappears before the commit", "[atomic_file]") {
  const TemporaryFolder folder;
  make_directory(folder / "sub");
  AtomicFile file(folder / "sub/out.txt");
  file.write("text");
  std::filesystem::remove_all(folder / "sub");
  CHECK_THAT(error_text([&] { file.commit(); }), Contains("out.txt: cannot replace the file: No such file"));
}

TEST_CASE("write_all: a device without space", "[atomic_file]") {
  const int descriptor = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  REQUIRE(descriptor >= 0);
  CHECK(error_text([&] { detail::write_all(descriptor, std::as_bytes(std::span("text")), "out.txt"); }) ==
        "out.txt: cannot write the file: No space left on device (free some space there or choose another folder)");
  ::close(descriptor);
}

TEST_CASE("AtomicFile: a limit on file sizes leaves the old file and nothing else", "[atomic_file]") {
  const TemporaryFolder folder;
  folder.file("out.txt", "old");
  rlimit old_limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  rlimit limit = old_limit;
  limit.rlim_cur = 1000;
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::string text;
  try {
    write_text_file(folder / "out.txt", std::string(100'000, 'x'));
  } catch (const Error& error) {
    text = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK_THAT(text, Contains("out.txt: cannot write the file: File too large"));
  CHECK(folder.names() == Names{"out.txt"});
  CHECK(content_of(folder / "out.txt") == "old");
}

TEST_CASE("AtomicFile: a full disk leaves the old file and nothing else", "[atomic_file]") {
  const TemporaryFolder folder;
  const std::filesystem::path disk = folder / "disk";
  make_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
    WARN("skipped: a full disk (mounting a small tmpfs needs root)");
    return;
  }
  std::string text;
  std::string old;
  std::size_t count = 0;
  try {
    write_text_file(disk / "out.txt", "old");
    write_text_file(disk / "out.txt", std::string(1'000'000, 'x'));
  } catch (const Error& error) {
    text = error.what();
    old = content_of(disk / "out.txt");
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(disk)) ++count;
  }
  ::umount(disk.c_str());
  CHECK_THAT(text, Contains("out.txt: cannot write the file: No space left on device") && Contains("free some space"));
  CHECK(old == "old");
  CHECK(count == 1);
}

TEST_CASE("make_directory", "[atomic_file]") {
  const TemporaryFolder folder;
  make_directory(folder / "a/b/c");
  make_directory(folder / "a/b/c");
  make_directory(folder / "a/b/d/");
  CHECK(std::filesystem::is_directory(folder / "a/b/c"));
  folder.file("plain", "");
  CHECK_THAT(error_text([&] { make_directory(folder / "plain"); }), Contains("plain: cannot create the folder"));
  CHECK_THAT(error_text([&] { make_directory(folder / "plain/sub"); }), Contains("cannot create the folder: Not a directory"));
}

}  // namespace
}  // namespace deltatune
