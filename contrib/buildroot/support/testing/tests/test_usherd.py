# For Buildroot's own test runner: copy it to support/testing/tests/package/ of a Buildroot tree, and
#
#     USHERD_EXTERNAL=/path/to/usherd/contrib/buildroot \
#         support/testing/run-tests -d dl -o output tests.package.test_usherd
import os

import infra.basetest


class TestUsherd(infra.basetest.BRTest):
    br2_external = [os.environ.get("USHERD_EXTERNAL", "")]
    config = infra.basetest.BASIC_TOOLCHAIN_CONFIG + \
        """
        BR2_PACKAGE_USHERD=y
        BR2_TARGET_ROOTFS_CPIO=y
        # BR2_TARGET_ROOTFS_TAR is not set
        """

    def run_ok(self, *commands):
        for command in commands:
            self.assertRunOk(command)

    def test_run(self):
        img = os.path.join(self.builddir, "images", "rootfs.cpio")
        self.emulator.boot(arch="armv5",
                           kernel="builtin",
                           options=["-initrd", img])
        self.emulator.login()
        # Started at boot, with nothing to serve.
        self.run_ok("/etc/init.d/S50usherd status",
                    "sed -i 's/disable *= yes/disable = no/' /etc/usherd.d/echo",
                    "usherd -t -f /etc/usherd.conf",
                    "/etc/init.d/S50usherd reload",
                    "sleep 1",
                    "test \"$(echo hello | nc -w 5 127.0.0.1 7)\" = hello")
        # Another program in its place; nobody waits any longer for it than for a reload.
        self.run_ok("cp /usr/sbin/usherd /tmp/usherd",
                    "mv /tmp/usherd /usr/sbin/usherd",
                    "/etc/init.d/S50usherd upgrade",
                    "sleep 1",
                    "test \"$(echo hello | nc -w 5 127.0.0.1 7)\" = hello",
                    "/etc/init.d/S50usherd restart",
                    "test \"$(echo hello | nc -w 5 127.0.0.1 7)\" = hello",
                    "/etc/init.d/S50usherd stop",
                    "! /etc/init.d/S50usherd status")
