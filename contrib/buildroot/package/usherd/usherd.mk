################################################################################
#
# usherd
#
################################################################################

USHERD_VERSION = 0.1.0
# The tree that this directory is part of.
USHERD_SITE = $(BR2_EXTERNAL_USHERD_PATH)/../..
USHERD_SITE_METHOD = local
USHERD_LICENSE = MIT or Apache-2.0
USHERD_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
# Our .cargo/config.toml names a linker for people without one; here
# there is one, Buildroot's, and other flags go with it.
USHERD_CARGO_ENV = RUSTFLAGS="-Cforce-unwind-tables=no"

# As cargo-package does it, but not --offline: a local tree has no
# vendored crates.
define USHERD_BUILD_CMDS
	cd $(USHERD_SRCDIR) && \
	$(TARGET_MAKE_ENV) \
		$(TARGET_CONFIGURE_OPTS) \
		$(PKG_CARGO_ENV) \
		$(USHERD_CARGO_ENV) \
		cargo build \
			--release \
			--manifest-path Cargo.toml \
			--locked
endef

USHERD_INSTALL = $(@D)/tools/install
USHERD_PROGRAM = $(@D)/target/$(RUSTC_TARGET_NAME)/release/usherd

define USHERD_INSTALL_TARGET_CMDS
	$(USHERD_INSTALL) none --root $(TARGET_DIR) --daemon $(USHERD_PROGRAM)
endef

define USHERD_INSTALL_INIT_SYSV
	$(USHERD_INSTALL) busybox --root $(TARGET_DIR) --daemon $(USHERD_PROGRAM)
endef

define USHERD_INSTALL_INIT_OPENRC
	$(USHERD_INSTALL) openrc --root $(TARGET_DIR) --daemon $(USHERD_PROGRAM)
endef

define USHERD_INSTALL_INIT_SYSTEMD
	$(USHERD_INSTALL) systemd --systemd $(SYSTEMD_VERSION) \
		--root $(TARGET_DIR) --daemon $(USHERD_PROGRAM)
endef

$(eval $(cargo-package))
