SUMMARY = "A super-server: inetd, xinetd and tcpd in one static file"
DESCRIPTION = "Listens for many services, decides who may come in, and starts their programs or answers itself."
HOMEPAGE = "https://github.com/usherd/usherd"
BUGTRACKER = "https://github.com/usherd/usherd/issues"
SECTION = "net"
CVE_PRODUCT = "usherd"

LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE-MIT;md5=6f3358997dc55c8c7c902ddee6b3cfa1 \
                    file://LICENSE-APACHE;md5=1836efb2eb779966696f473ee8540542"

# The crates; the rest is this tree.
SRC_URI = ""
# Every crate with its version and checksum. It is not here: `bitbake -c update_crates usherd` writes it from Cargo.lock.
include ${BPN}-crates.inc

inherit cargo cargo-update-recipe-crates externalsrc systemd update-rc.d

# The tree that this layer is part of.
EXTERNALSRC = "${@os.path.realpath(d.getVar('THISDIR') + '/../../../..')}"

# The distribution strips, and keeps what it has stripped.
export CARGO_PROFILE_RELEASE_STRIP = "none"

INITSCRIPT_NAME = "usherd"
INITSCRIPT_PARAMS = "defaults 50"
SYSTEMD_SERVICE:${PN} = "usherd.service"

do_install() {
    program=${B}/target/${CARGO_TARGET_SUBDIR}/usherd
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        ${S}/tools/install systemd --systemd 255 --root ${D} --daemon $program UNIT_DIR=${systemd_system_unitdir}
    fi
    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        ${S}/tools/install sysv --root ${D} --daemon $program
    fi
}

FILES:${PN} += "${systemd_system_unitdir}/usherd.service ${datadir}/doc/usherd/strict.conf"
CONFFILES:${PN} = "${sysconfdir}/usherd.conf ${sysconfdir}/usherd.d/echo ${sysconfdir}/default/usherd"
